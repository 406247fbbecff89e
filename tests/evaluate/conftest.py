from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pydoc_data.topics as topics
from collections.abc import Callable

import pytest
import torch

from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.text import Document
from lifelong.tokens.tokenizer import BPETokenizer

TEXTS = [text.strip() for _, text in sorted(topics.topics.items())]


def chat(*turns: str) -> Document:
    """A conversation that begins with the user."""
    messages = tuple({"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns))
    return Document("\n".join(turns), "chat.jsonl", "chat", kind="chat", messages=messages)


@pytest.fixture(scope="session")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(vocab_size=400).train(TEXTS[:10])


@pytest.fixture
def model(tokenizer: BPETokenizer) -> Transformer:
    """A small model with every weight random, so that nothing is zero by chance of initialisation."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=32, num_layers=2, num_query_heads=4, num_kv_heads=2, max_seq_len=48
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.15)
    return model


@pytest.fixture
def documents() -> list[Document]:
    """One text shorter than a window, one with characters of several bytes, two longer than a window."""
    texts = ["A short one.", "naïve – 日本語 🦊", TEXTS[0][:400], TEXTS[1][:900]]
    return [Document(text, "topics", f"topic{i}") for i, text in enumerate(texts)]


@pytest.fixture(scope="session")
def make_chat() -> Callable[..., Document]:
    return chat
