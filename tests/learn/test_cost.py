"""What a session computes."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lifelong.learn.cost import session_flops
from lifelong.model.adapters import AdapterConfig, attach_adapter
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig

LENGTH = 8


@pytest.mark.parametrize("rank", [0, 4])
def test_a_session_computes_what_torch_counts(rank: int) -> None:
    """Attention is a small part of so short a row: its lower triangle is counted here, the whole of it by torch."""
    config = ModelConfig(vocab_size=64, d_model=128, num_layers=3, num_query_heads=4, num_kv_heads=2)
    model = Transformer(config)
    if rank:
        attach_adapter(model, AdapterConfig(rank=rank, dropout=0))
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad) if rank else 0
    ids = torch.randint(64, (2, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model.loss_sum(ids, ids).backward()
    wanted = session_flops(config, ids.numel(), LENGTH, adapter_parameters=parameters)
    assert counter.get_total_flops() == pytest.approx(wanted, rel=0.05)


def test_a_teacher_reads_everything_once_more() -> None:
    config = ModelConfig(vocab_size=64, d_model=64, num_layers=2, num_query_heads=2, num_kv_heads=2)
    alone, taught = (session_flops(config, 100, LENGTH, taught=share) for share in (0.0, 0.5))
    assert taught == pytest.approx(alone * 7 / 6)
