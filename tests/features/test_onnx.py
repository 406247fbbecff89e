"""Row F16: ONNX after training and after every session; inference from it, and from GGUF."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from driving import refused
from exporting import GENAI, QUICK, STEPS, exported, new_place, printed, teach, train
from lifelong.cli.app import main
from lifelong.files import read_json
from lifelong.model.directory import write_model_files
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens.loading import load_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_place(tmp_path_factory.mktemp("onnx"))
    train(folder, folder / "m")
    return folder


@pytest.mark.slow
def test_f16_an_onnx_export_follows_training_and_lessons_and_a_stale_one_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime_genai", reason=GENAI)
    out, onnx = tmp_path / "m", tmp_path / "onnx"
    shutil.copytree(place / "m", out)
    short = ["--steps", "3", *STEPS[2:-2]]
    train(place, out, "--onnx-output", str(onnx), steps=short)
    before = read_json(onnx / "export.json")
    assert before["fingerprint"] and read_json(onnx / "verification.json")["verified"] is True
    teach(place, out, "--onnx-output", str(onnx))
    after = read_json(onnx / "export.json")
    assert after["adapter"] == "more" and after["fingerprint"] != before["fingerprint"]
    assert main(["verify", str(onnx), str(out), *QUICK]) == 0
    assert main(["rollback", str(out)]) == 0
    assert main(["verify", str(onnx), str(out), *QUICK]) == 2
    assert "the export is stale" in capsys.readouterr().err


def test_heads_of_a_size_that_onnxruntime_refuses_are_refused_first(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(place / "bpe")
    shape = {"d_model": 16, "num_layers": 1, "num_query_heads": 2, "num_kv_heads": 1, "max_seq_len": 32}
    write_model_files(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), tokenizer, tmp_path / "m")
    said = refused(capsys, "export", tmp_path / "m", "--to", "onnx", "--out", tmp_path / "e")
    assert "a multiple of 16 numbers, and this model's have 8" in said and not (tmp_path / "e").exists()


@pytest.mark.parametrize("target", ["onnx", "gguf"])
def test_f16_an_export_writes_and_talks_as_the_model_does(
    target: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = {"onnx": "onnxruntime_genai", "gguf": "xllamacpp"}[target]
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'lifelong[{target}]'")
    out = tmp_path / "e"
    exported(place / "m", out, capsys, "--to", target, "--precision", "fp32")
    flags = ["--prompt", "The names of", "--prompt", "def f(", "--max-tokens", "30", "--temperature", "0", "--json"]
    here = printed(capsys, "generate", str(place / "m"), *flags)
    assert printed(capsys, "generate", str(out), *flags) == here  # it is recognised
    assert printed(capsys, "generate", str(out), "--engine", target, *flags) == here
    drawn = ["--prompt", "The names of", "--seed", "7", "--num-samples", "2", "--json"]
    first = printed(capsys, "generate", str(out), *drawn)
    assert printed(capsys, "generate", str(out), *drawn) == first
    assert len(set(json.loads(first)["texts"])) == 2
    if target == "onnx":  # the draws are ours, too
        assert printed(capsys, "generate", str(place / "m"), *drawn) == first
    talk = ["--message", "The names of", "--max-tokens", "20", "--temperature", "0", "--json"]
    assert printed(capsys, "chat", str(out), *talk) == printed(capsys, "chat", str(place / "m"), *talk)
    other = {"onnx": "gguf", "gguf": "onnx"}[target]
    assert main(["generate", str(out), "--engine", other, "--prompt", "x"]) == 2
    assert f"--engine {other} does not run" in capsys.readouterr().err
    assert main(["generate", str(place / "m"), "--engine", target, "--prompt", "x"]) == 2
    assert f"--to {target}" in capsys.readouterr().err
