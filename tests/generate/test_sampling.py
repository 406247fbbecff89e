from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.generate.sampling import sample_next

PROBABILITIES = torch.tensor([0.5, 0.25, 0.15, 0.1])
LOGITS = PROBABILITIES.log().unsqueeze(0)


def shares(draws: int = 20_000, logits: torch.Tensor = LOGITS, **settings: float) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    tokens = sample_next(logits.expand(draws, -1), generator=generator, **settings)  # type: ignore[arg-type]
    counts = torch.bincount(tokens, minlength=logits.shape[-1])
    return [float(count) / draws for count in counts]


def test_plain_sampling_follows_the_distribution() -> None:
    assert shares() == pytest.approx(PROBABILITIES.tolist(), abs=0.015)


def test_temperature_sharpens() -> None:
    squared = PROBABILITIES.square() / PROBABILITIES.square().sum()
    assert shares(temperature=0.5) == pytest.approx(squared.tolist(), abs=0.015)


def test_top_k_keeps_the_likeliest() -> None:
    assert shares(top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, [1.0, 0, 0, 0]), (0.6, [2 / 3, 1 / 3, 0, 0]), (0.8, [5 / 9, 5 / 18, 1 / 6, 0])]
)
def test_top_p_keeps_the_smallest_set_that_holds_p(top_p: float, kept: list[float]) -> None:
    shuffled = [2, 0, 3, 1]
    found = shares(logits=LOGITS[:, shuffled], top_p=top_p)
    assert found == pytest.approx([kept[i] for i in shuffled], abs=0.015)


def test_banned_tokens_never_come() -> None:
    assert sample_next(LOGITS, greedy=True, banned={0}).tolist() == [1]
    draws = sample_next(LOGITS.expand(1000, -1), banned={0, 2}, generator=torch.Generator().manual_seed(0))
    assert set(draws.tolist()) == {1, 3}


def test_zero_temperature_and_greedy_take_the_likeliest_of_each_row() -> None:
    rows = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 2.0]])
    assert sample_next(rows, temperature=0).tolist() == [1, 0]
    assert sample_next(rows, greedy=True).tolist() == [1, 0]


def test_a_tiny_temperature_is_almost_greedy_and_never_nan() -> None:
    assert sample_next(LOGITS * 1000, temperature=1e-30).tolist() == [0]


def test_the_input_is_left_alone() -> None:
    logits = LOGITS.clone()
    sample_next(logits, temperature=0.5, top_k=2, top_p=0.5, banned={1})
    assert torch.equal(logits, LOGITS)


def test_nan_is_an_error() -> None:
    with pytest.raises(LifelongError, match="NaN"):
        sample_next(torch.tensor([[0.0, math.nan]]))


@pytest.mark.parametrize(
    "setting", [{"temperature": -1.0}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": -0.1}, {"top_p": 1.5}]
)
def test_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(LifelongError):
        sample_next(LOGITS, **setting)  # type: ignore[arg-type]


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
    temperature=st.floats(0.01, 5),
    top_k=st.integers(0, 25),
    top_p=st.floats(0.01, 1),
    seed=st.integers(0, 1000),
)
def test_the_choice_is_always_allowed(
    logits: list[float], temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    chosen = sample_next(
        torch.tensor([logits]),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        generator=torch.Generator().manual_seed(seed),
    ).item()
    assert 0 <= chosen < len(logits)
    if top_k:
        assert logits[int(chosen)] >= sorted(logits)[-min(top_k, len(logits))]
