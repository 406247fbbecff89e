"""Adapters that are laid beside an export: as PEFT and llama.cpp read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporting import LLAMA_CPP, QUICK, STEPS, exported, new_place, printed, teach, train
from lifelong.cli.app import main
from lifelong.model.directory import load_model


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one adapter."""
    folder = new_place(tmp_path_factory.mktemp("adapters"))
    train(folder, folder / "m", steps=["--steps", "10", *STEPS[2:]])
    teach(folder, folder / "m")
    return folder / "m"


def test_an_adapter_beside_a_stock_directory_is_loaded_by_peft_with_equal_logits(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import peft
    import transformers

    found = exported(taught, tmp_path / "h", capsys, "--to", "huggingface")
    assert found["adapters_beside"] == ["more"] and found["verification"]["adapters"]["more"]["verified"] is True
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "h", dtype=torch.float32)
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        plain = base(ids).logits
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "h" / "adapters" / "more").eval()(ids).logits
        ours = load_model(taught, device="cpu", adapter="more")[0](ids)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (theirs - plain).abs().max() > 0.01
    merged = exported(taught, tmp_path / "g", capsys, "--to", "huggingface", "--merged")
    assert (merged["adapter"], merged["adapters_beside"]) == ("more", [])
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "g", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(stock(ids).logits, theirs, rtol=1e-4, atol=1e-4)


def test_an_adapter_as_a_lora_file_answers_in_llama_cpp_as_here(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp", reason=LLAMA_CPP)
    out = tmp_path / "g"
    found = exported(taught, out, capsys, "--to", "gguf", "--precision", "fp32")
    under = found["verification"]["adapters"]["more"]
    assert under["loss_apart_mean"] < 1e-3
    assert abs(under["bits_per_byte_exported"] - found["verification"]["bits_per_byte_exported"]) > 0.01
    assert "\nADAPTER ./more-lora.gguf\n" in (out / "Modelfile").read_text()
    flags = ["--prompt", "The names of", "--max-tokens", "30", "--temperature", "0", "--json"]
    for adapter in ("more", "base"):
        there = json.loads(printed(capsys, "generate", str(out), "--adapter", adapter, *flags))
        assert (
            there["texts"]
            == json.loads(printed(capsys, "generate", str(taught), "--adapter", adapter, *flags))["texts"]
        )
    assert main(["generate", str(out), "--adapter", "cooking", "--prompt", "x"]) == 2
    assert "no 'cooking'" in capsys.readouterr().err


def test_an_adapter_of_other_weights_is_refused(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(taught, tmp_path / "m"))
    file = other / "lifelong" / "adapters" / "more" / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "base_fingerprint": "0" * 64})
    for flags in (["--adapter", "more"], ["--merged"], []):
        command = ["export", str(other), "--to", "huggingface", "--out", str(tmp_path / "x"), *QUICK, *flags]
        assert main(command) == 2
        assert "made for other weights" in capsys.readouterr().err and not (tmp_path / "x").exists()
