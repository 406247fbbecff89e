"""A small model trained on Python's documentation, and Python's source as the domain to teach it."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import pydoc_data.topics as topics
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lifelong.learn.session import learn
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import TrainSettings
from lifelong.tokens.tokenizer import BPETokenizer
from lifelong.train.run import train

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 800
model: {d_model: 64, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 128}
"""


@pytest.fixture(scope="session")
def code_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "modules.txt"
    modules = [argparse, ast, inspect, json.decoder, shutil]
    path.write_text("\n\n\n".join(inspect.getsource(module) for module in modules), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About half a minute of training on one core."""
    place = tmp_path_factory.mktemp("base")
    text = "\n\n\n".join(text for _, text in sorted(topics.topics.items()))
    (place / "topics.txt").write_text(text, encoding="utf-8")
    (place / "preset.yaml").write_text(PRESET)
    BPETokenizer(800).train([text]).save(place / "tokenizer")
    settings = TrainSettings.build(
        {
            "preset": str(place / "preset.yaml"),
            "steps": 250,
            "batch_size": 16,
            "sequence_length": 64,
            "domain": "manual",
            "evaluation": {"max_bytes": 20000, "every_steps": 250},
        }
    )
    train([str(place / "topics.txt")], place / "model", settings, tokenizer=place / "tokenizer")
    return place / "model"


@pytest.fixture
def model(base_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(base_model, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def copy_of(base_model: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        shutil.copytree(base_model, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def taught(base_model: Path, code_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with two adapters beside it, of code and of the sea. To be copied by who changes it."""
    place = tmp_path_factory.mktemp("taught") / "model"
    shutil.copytree(base_model, place)
    sea = place.parent / "sea.txt"
    sea.write_text("\n\n".join(f"Line {i}: the sea is {i} miles wide, and {i + 1} deep." for i in range(900)))
    given = {"mode": "adapter", "steps": 80, "batch_size": 8, "sequence_length": 64, "max_bytes": 20000}
    for domain, source in (("code", code_file), ("sea", sea)):
        settings = LearnSettings.build({**given, "domain": domain, "accept": True, "lora_dropout": 0.0})
        learn(place, [str(source)], settings)
    return place
