"""What the tests of exports share: a small trained model, and calls of the verbs."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
from pathlib import Path
from typing import Any

import pytest

from lifelong import BPETokenizer
from lifelong.cli.app import main

QUICK = ["--strings", "200", "--tokens", "60"]
SHAPE = """\
name: small-test
description: for tests
reference_vocab_size: 400
model: {d_model: 64, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64, qk_norm: false}
"""
STEPS = ["--steps", "30", "--batch-size", "8", "--sequence-length", "64", "--threads", "1", "--learning-rate", "1e-2"]
BYTES = ["--evaluation.max-bytes", "2000"]
GENAI = "onnxruntime-genai is not installed: pip install 'lifelong[onnx]'"
LLAMA_CPP = "llama.cpp is not installed: pip install 'lifelong[gguf]'"


def new_place(folder: Path) -> Path:
    """Write texts, a tokenizer and a shape into a folder."""
    texts = [text for _, text in sorted(topics.topics.items())]
    texts, more = texts[:40], texts[40:55]
    (folder / "topics.txt").write_text("\n\n\n".join(texts), encoding="utf-8")
    (folder / "more").mkdir()
    for number, text in enumerate(more):
        (folder / "more" / f"{number}.txt").write_text(text, encoding="utf-8")
    BPETokenizer(400).train(texts).save(folder / "bpe")
    (folder / "small.yaml").write_text(SHAPE)
    return folder


def train(place: Path, out: Path, *flags: str, steps: list[str] = STEPS) -> None:
    """Train a model of the small shape, or further what ``out`` holds."""
    words = ["--data", str(place / "topics.txt"), "--tokenizer", str(place / "bpe"), "--out", str(out)]
    shape = [] if "--base" in flags or out.exists() else ["--preset", str(place / "small.yaml")]
    assert main(["train", *words, *shape, *steps, *BYTES, *flags]) == 0


def teach(place: Path, model: Path, *flags: str) -> None:
    """Teach a model the domain ``more`` as an adapter."""
    lesson = ["learn", str(model), str(place / "more"), "--domain", "more", "--mode", "adapter", "--max-bytes", "2000"]
    assert main([*lesson, "--steps", "10", *STEPS[2:], *flags]) == 0


def exported(model: Path, out: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """Export a model, and return what the verb says."""
    capsys.readouterr()
    assert main(["export", str(model), "--out", str(out), *QUICK, "--json", *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """Run a command that works, and return what it prints."""
    capsys.readouterr()
    assert main(list(command)) == 0
    return capsys.readouterr().out
