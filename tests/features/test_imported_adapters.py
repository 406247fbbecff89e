"""Row F13: adapters that PEFT made join a model; PEFT's own model is the oracle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from bases import make_base
from driving import done, refused, said
from lifelong.model.directory import load_model

TEXT = [5, 9, 100, 3, 42, 7, 77, 8]


def make_adapter(base: Path, place: Path, **choices: Any) -> torch.Tensor:
    """Write an adapter with random weights for a base; returns PEFT's logits of `TEXT`."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **{"r": 4, "lora_alpha": 8, **choices})
    adapted = peft.get_peft_model(model, settings).eval()
    adapted.save_pretrained(place)
    with torch.no_grad():
        found: torch.Tensor = adapted(torch.tensor([TEXT])).logits
    return found


def logits(place: Path, adapter: str) -> torch.Tensor:
    model, _ = load_model(place, device="cpu", adapter=adapter)
    with torch.no_grad():
        return model(torch.tensor([TEXT]))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "llama", "llama")


@pytest.fixture
def model(base: Path, tmp_path: Path) -> Path:
    done("import", base, "--out", tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("family", "choices"),
    [
        ("llama", {"target_modules": "all-linear"}),
        ("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ],
)
def test_f13_an_adapter_of_peft_computes_here_what_it_does_there(
    tmp_path: Path, family: str, choices: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    base, place = make_base(tmp_path / "base", family), tmp_path / "model"
    expected = make_adapter(base, tmp_path / "tuned", **choices)
    done("import", base, "--out", place)
    plain = logits(place, "base")
    assert said(capsys, "import", tmp_path / "tuned", "--into", place)["adapter"] == "tuned"
    vocabulary = expected.shape[-1]  # tokens of the chat format stand behind it
    assert torch.allclose(logits(place, "tuned")[..., :vocabulary], expected, atol=1e-5)
    assert torch.equal(logits(place, "base"), plain)
    assert not torch.allclose(plain[..., :vocabulary], expected, atol=1e-2)
    assert [row["adapters"] for row in said(capsys, "domains", place)["domains"]] == [["tuned"]]


def test_an_imported_adapter_answers_with_the_others_and_is_rolled_back(
    base: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_adapter(base, tmp_path / "tuned", target_modules="all-linear")
    done("import", tmp_path / "tuned", "--into", model, "--name", "law")
    loaded, _ = load_model(model, device="cpu")
    assert loaded.experts is not None
    assert loaded.experts.names == ["base", "law"]
    assert "there is a domain 'law' already" in refused(
        capsys, "import", tmp_path / "tuned", "--into", model, "--name", "law"
    )
    done("rollback", model, "--to", 1)
    assert load_model(model, device="cpu")[0].experts is None
    assert [event["event"] for event in said(capsys, "history", model)["events"]] == ["import", "import", "rollback"]


def test_what_has_no_place_here_is_refused_and_the_model_untouched(
    base: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, choices in {
        "dora": {"use_dora": True},
        "whole": {"modules_to_save": ["lm_head"]},
        "ranks": {"rank_pattern": {"q_proj": 2}},
    }.items():
        make_adapter(base, tmp_path / name, target_modules=["q_proj", "v_proj"], **choices)
        assert "only plain LoRA" in refused(capsys, "import", tmp_path / name, "--into", model)
    good = tmp_path / "good"
    make_adapter(base, good, target_modules=["q_proj"])
    assert "this is an adapter" in refused(capsys, "import", good, "--out", tmp_path / "new")
    assert "directory of its own" in refused(capsys, "import", base, "--into", model)
    done("import", make_base(tmp_path / "other", "gpt2"), "--out", tmp_path / "wider")
    assert "none of its layers" in refused(capsys, "import", good, "--into", tmp_path / "wider")
    tensors = load_file(good / "adapter_model.safetensors")
    half = shutil.copytree(good, tmp_path / "half")
    save_file(dict(sorted(tensors.items())[1:]), half / "adapter_model.safetensors")
    assert "is missing" in refused(capsys, "import", half, "--into", model)
    ours = shutil.copytree(good, tmp_path / "ours")
    save_file(tensors, ours / "adapter_model.safetensors", metadata={"base_fingerprint": "0" * 64})
    assert "made for other weights" in refused(capsys, "import", ours, "--into", model)
    old = shutil.copytree(good, tmp_path / "old")
    (old / "adapter_model.safetensors").rename(old / "adapter_model.bin")
    assert "adapter_model.bin" in refused(capsys, "import", old, "--into", model)
    assert [event["event"] for event in said(capsys, "history", model)["events"]] == ["import"]


def test_weights_changed_from_outside_are_imported_as_the_error_says(
    base: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_adapter(base, tmp_path / "tuned", target_modules=["q_proj"])
    done("import", tmp_path / "tuned", "--into", model)
    assert "model directory of ours already" in refused(capsys, "import", model, "--out", tmp_path / "again")
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()  # it is linked to the store's own
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, model / "model.safetensors")
    (tmp_path / "more.txt").write_text(json.dumps(TEXT))
    assert "lifelong import" in refused(capsys, "learn", model, tmp_path / "more.txt", "--domain", "more")
    notes = said(capsys, "import", model, "--out", tmp_path / "again")["notes"]
    assert any("stay behind" in note for note in notes)
