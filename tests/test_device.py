"""The precision that `auto` chooses on a CPU: whatever else the machine does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, repeat

import pytest
import torch

from lifelong import device
from lifelong.errors import LifelongError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    device._bf16_pays.cache_clear()
    yield
    device._bf16_pays.cache_clear()


def picked(monkeypatch: pytest.MonkeyPatch, fp32: Iterator[float], bf16: Iterator[float]) -> str:
    times = {torch.float32: fp32, torch.bfloat16: bf16}
    monkeypatch.setattr(device, "_product", lambda place, dtype, size: lambda: next(times[dtype]))
    return device.pick_precision(CPU)


def test_a_burst_of_other_work_does_not_change_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert picked(monkeypatch, chain(repeat(0.1, 12), repeat(0.001)), repeat(0.002)) == "fp32"
    device._bf16_pays.cache_clear()
    assert picked(monkeypatch, repeat(0.002), cycle([0.0005] * 4 + [0.1])) == "bf16"


def test_the_precision_is_measured_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert picked(monkeypatch, repeat(0.002), repeat(0.0005)) == "bf16"
    assert picked(monkeypatch, repeat(0.001), repeat(0.1)) == "bf16"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one here")
def test_a_device_that_is_not_here_is_named_in_a_few_words() -> None:
    with pytest.raises(LifelongError, match="device 'mps' is not available: this machine") as caught:
        device.pick_device("mps")
    assert len(str(caught.value)) < 200


def test_timing_draws_nothing_from_the_seeded_generator() -> None:
    torch.manual_seed(1)
    device.pick_precision(CPU)
    device.matmul_flops(CPU, torch.float32, (8, 8, 8))
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert drawn.equal(torch.rand(3))


def test_a_precision_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.pick_precision(CPU, "bf16") == "bf16"
