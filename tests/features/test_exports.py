"""Rows F16 and F25, and exports for other programs: each is run in the program that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exporting import LLAMA_CPP, QUICK, exported, new_place, train
from lifelong import load_model_and_tokenizer
from lifelong.cli.app import main
from lifelong.export import gguf_writer
from lifelong.files import read_json


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_place(tmp_path_factory.mktemp("export"))
    train(folder, folder / "m")
    return folder


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "q8_0", "q4_0"])
def test_a_gguf_file_answers_in_llama_cpp_as_trained(
    precision: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp", reason=LLAMA_CPP)
    found = exported(place / "m", tmp_path / "g", capsys, "--to", "gguf", "--precision", precision)["verification"]
    assert found["verified"] is True and found["strings_cut_otherwise"] == 0
    assert "FROM ./" in (tmp_path / "g" / "Modelfile").read_text()


def test_rows_of_queries_in_the_wrong_order_are_found_out_and_nothing_is_written(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp", reason=LLAMA_CPP)
    monkeypatch.setattr(gguf_writer, "permuted", lambda rows, heads: rows)
    command = ["export", str(place / "m"), "--to", "gguf", "--precision", "fp32", "--out", str(tmp_path / "g"), *QUICK]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "does not answer as the trained model does" in said and "Traceback" not in said
    assert not (tmp_path / "g").exists()


def test_a_huggingface_directory_is_clean_and_a_stale_one_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exported(place / "m", tmp_path / "h", capsys, "--to", "huggingface")
    assert found["verification"]["verified"] is True and not (tmp_path / "h" / "lifelong").exists()
    assert "Sessions" in (tmp_path / "h" / "README.md").read_text()
    record = read_json(tmp_path / "h" / "export.json")
    assert main(["verify", str(tmp_path / "h"), str(place / "m"), *QUICK]) == 0
    other = exported(place / "m", tmp_path / "o", capsys, "--to", "inference")
    assert other["fingerprint"] == record["fingerprint"]
    model, _ = load_model_and_tokenizer(tmp_path / "o", device="cpu")
    with torch.no_grad():
        model.output_weight.mul_(1.5)
    from safetensors.torch import save_file

    from lifelong.model.directory import model_weights

    save_file(model_weights(model), tmp_path / "o" / "model.safetensors")
    assert main(["verify", str(tmp_path / "h"), str(tmp_path / "o"), *QUICK]) == 2
    assert "stale" in capsys.readouterr().err


def test_f25_an_inference_directory_holds_weights_alone_and_loads(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exported(place / "m", tmp_path / "i", capsys, "--to", "inference", "--precision", "bf16")
    assert found["verification"]["verified"] is True
    model, tokenizer = load_model_and_tokenizer(tmp_path / "i", device="cpu")
    assert model(torch.tensor([tokenizer.encode("yield")])).isfinite().all()
    size = (tmp_path / "i" / "model.safetensors").stat().st_size
    assert size < 0.6 * (place / "m" / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--to", "coreml"], "unknown target 'coreml'"),
        (["--to", "gguf", "--precision", "int3"], "no precision 'int3'"),
        (["--to", "huggingface", "--adapter", "cooking"], "no adapter 'cooking'"),
    ],
)
def test_what_there_is_not_is_refused(
    flags: list[str], says: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(place / "m"), "--out", str(tmp_path / "x"), *flags]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_directory_in_use_is_never_overwritten(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["export", str(place / "m"), "--to", "gguf", "--out", str(tmp_path)]) == 2
    assert "never overwritten" in capsys.readouterr().err and (tmp_path / "mine.txt").read_text() == "mine"
