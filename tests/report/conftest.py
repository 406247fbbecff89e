from __future__ import annotations

import math
from typing import Any

import pytest

from lifelong.evaluate.matrix import Matrix


def run(steps: int, gate_every: int = 25) -> list[dict[str, Any]]:
    """Metrics as a training run writes them."""
    rows = []
    for step in range(1, steps + 1):
        bits = 2.0 + 3.0 * math.exp(-step / 20) + 0.05 * math.sin(step * 7.0)
        row = {"step": step, "tokens": 4096, "loss": 2.4 * bits, "bits_per_byte": bits, "lr": 3e-3 / step}
        row |= {"grad_norm": 1.0, "tokens_per_second": 41234.0, "seconds": 0.1, "phase": "pretrain"}
        if step % gate_every == 0:
            row["gate_bits_per_byte"] = bits + 0.1
        rows.append(row)
    return rows


@pytest.fixture
def metrics() -> list[dict[str, Any]]:
    return run(100)


@pytest.fixture
def guarded() -> Matrix:
    return Matrix(["prose", "code"], ["start", "code"], [[1.912, 3.104], [1.921, 1.871]])


@pytest.fixture
def naive() -> Matrix:
    return Matrix(["prose", "code"], ["start", "code"], [[1.912, 3.104], [2.488, 1.842]])
