"""Rows F16 and F25, and exports for other programs: each is run in the program that it is for."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong import BPETokenizer, load_model_and_tokenizer
from lifelong.cli.app import main
from lifelong.export import gguf_writer
from lifelong.files import read_json

QUICK = ["--strings", "200", "--tokens", "60"]
SHAPE = """\
name: small-test
description: for tests
reference_vocab_size: 400
model: {d_model: 64, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64, qk_norm: false}
"""
STEPS = ["--steps", "30", "--batch-size", "8", "--sequence-length", "64", "--threads", "1", "--learning-rate", "1e-2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    texts = [text for _, text in sorted(topics.topics.items())][:40]
    (folder / "topics.txt").write_text("\n\n\n".join(texts), encoding="utf-8")
    BPETokenizer(400).train(texts).save(folder / "bpe")
    (folder / "small.yaml").write_text(SHAPE)
    words = ["--data", str(folder / "topics.txt"), "--preset", str(folder / "small.yaml")]
    out = ["--tokenizer", str(folder / "bpe"), "--out", str(folder / "m")]
    assert main(["train", *words, *out, *STEPS, "--evaluation.max-bytes", "2000"]) == 0
    return folder


def exported(place: Path, out: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["export", str(place / "m"), "--out", str(out), *QUICK, "--json", *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "q8_0", "q4_0"])
def test_a_gguf_file_answers_in_llama_cpp_as_trained(
    precision: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'lifelong[gguf]'")
    found = exported(place, tmp_path / "g", capsys, "--to", "gguf", "--precision", precision)["verification"]
    assert found["verified"] is True and found["strings_cut_otherwise"] == 0
    assert "FROM ./" in (tmp_path / "g" / "Modelfile").read_text()


def test_rows_of_queries_in_the_wrong_order_are_found_out_and_nothing_is_written(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'lifelong[gguf]'")
    monkeypatch.setattr(gguf_writer, "permuted", lambda rows, heads: rows)
    command = ["export", str(place / "m"), "--to", "gguf", "--precision", "fp32", "--out", str(tmp_path / "g"), *QUICK]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "does not answer as the trained model does" in said and "Traceback" not in said
    assert not (tmp_path / "g").exists()


def test_a_huggingface_directory_is_clean_and_a_stale_one_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exported(place, tmp_path / "h", capsys, "--to", "huggingface")
    assert found["verification"]["verified"] is True and not (tmp_path / "h" / "lifelong").exists()
    assert "Sessions" in (tmp_path / "h" / "README.md").read_text()
    record = read_json(tmp_path / "h" / "export.json")
    assert main(["verify", str(tmp_path / "h"), str(place / "m"), *QUICK]) == 0
    other = exported(place, tmp_path / "o", capsys, "--to", "inference")
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
    found = exported(place, tmp_path / "i", capsys, "--to", "inference", "--precision", "bf16")
    assert found["verification"]["verified"] is True
    model, tokenizer = load_model_and_tokenizer(tmp_path / "i", device="cpu")
    assert model(torch.tensor([tokenizer.encode("yield")])).isfinite().all()
    size = (tmp_path / "i" / "model.safetensors").stat().st_size
    assert size < 0.6 * (place / "m" / "model.safetensors").stat().st_size


def test_f16_an_onnx_export_follows_the_model(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed: pip install 'lifelong[onnx]'")
    out, onnx = tmp_path / "m", tmp_path / "onnx"
    words = ["train", "--data", str(place / "topics.txt"), "--base", str(place / "m"), "--out", str(out)]
    flags = ["--onnx-output", str(onnx), *STEPS[:-2], "--evaluation.max-bytes", "2000"]
    assert main([*words, *flags]) == 0
    before = read_json(onnx / "export.json")["fingerprint"]
    assert main([words[0], *words[1:3], *words[5:], *flags]) == 0
    after = read_json(onnx / "export.json")["fingerprint"]
    assert after != before and read_json(onnx / "verification.json")["verified"] is True
    assert main(["verify", str(onnx), str(out), *QUICK]) == 0
    capsys.readouterr()


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(list(command)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("target", ["onnx", "gguf"])
def test_f16_an_export_writes_and_talks_as_the_model_does(
    target: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = {"onnx": "onnxruntime_genai", "gguf": "xllamacpp"}[target]
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'lifelong[{target}]'")
    out = tmp_path / "e"
    exported(place, out, capsys, "--to", target, "--precision", "fp32")
    flags = ["--prompt", "The names of", "--prompt", "def f(", "--max-tokens", "30", "--temperature", "0", "--json"]
    here = said(capsys, "generate", str(place / "m"), *flags)
    assert said(capsys, "generate", str(out), *flags) == here  # it is recognised
    assert said(capsys, "generate", str(out), "--engine", target, *flags) == here
    drawn = ["--prompt", "The names of", "--seed", "7", "--num-samples", "2", "--json"]
    first = said(capsys, "generate", str(out), *drawn)
    assert said(capsys, "generate", str(out), *drawn) == first
    assert len(set(json.loads(first)["texts"])) == 2
    if target == "onnx":  # the draws are ours, too
        assert said(capsys, "generate", str(place / "m"), *drawn) == first
    talk = ["--message", "The names of", "--max-tokens", "20", "--temperature", "0", "--json"]
    assert said(capsys, "chat", str(out), *talk) == said(capsys, "chat", str(place / "m"), *talk)
    other = {"onnx": "gguf", "gguf": "onnx"}[target]
    assert main(["generate", str(out), "--engine", other, "--prompt", "x"]) == 2
    assert f"--engine {other} does not run" in capsys.readouterr().err
    assert main(["generate", str(place / "m"), "--engine", target, "--prompt", "x"]) == 2
    assert f"--to {target}" in capsys.readouterr().err


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
