from __future__ import annotations

import pydoc_data.topics as topics
from pathlib import Path

import pytest

from lifelong.settings.train import TrainSettings
from lifelong.tokens.tokenizer import BPETokenizer

SMALL = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 48, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 450 kB of Python's own documentation."""
    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n\n\n".join(text for _, text in sorted(topics.topics.items())), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer_dir(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer") / "bpe"
    BPETokenizer(600).train([text_file.read_text(encoding="utf-8")]).save(out)
    return out


@pytest.fixture(scope="session")
def preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("preset") / "small.yaml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def settings(preset: str) -> TrainSettings:
    return TrainSettings.build(
        {
            "preset": preset,
            "steps": 12,
            "batch_size": 4,
            "sequence_length": 32,
            "threads": 1,
            "evaluation": {"max_bytes": 4000, "every_steps": 5},
        }
    )
