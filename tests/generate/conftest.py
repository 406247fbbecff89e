from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pydoc_data.topics as topics

import pytest
import torch

from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens.tokenizer import BPETokenizer


@pytest.fixture(scope="session")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(vocab_size=400).train([text for _, text in sorted(topics.topics.items())][:10])


@pytest.fixture
def model(tokenizer: BPETokenizer) -> Transformer:
    """A small model with every weight random: its likeliest tokens vary with the text before them."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=32, num_layers=2, num_query_heads=2, num_kv_heads=1, max_seq_len=96
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.2)
    return model
