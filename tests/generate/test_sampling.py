from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.generate.sampling import Sampling, choose, key_of, penalise

DRAWS = 20_000
PROBABILITIES = torch.tensor([0.5, 0.25, 0.15, 0.1])
LOGITS = PROBABILITIES.log().unsqueeze(0)
ALL: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


def drawn(logits: torch.Tensor, draws: int = DRAWS, **settings: Any) -> list[int]:
    """Draw from one row of logits, as a text of that many tokens would."""
    rows = logits.expand(draws, -1).clone()
    return choose(rows, Sampling(**{**ALL, **settings}), [key_of(0)] * draws, range(draws))[0]


def greedy(logits: torch.Tensor, **settings: Any) -> list[int]:
    return choose(logits.clone(), Sampling(temperature=0, **settings), [0] * len(logits), [0] * len(logits))[0]


def chi_square(tokens: list[int], expected: torch.Tensor) -> float:
    """Return the p-value of draws under a distribution; tokens of probability 0 must not have come."""
    counts = torch.bincount(torch.tensor(tokens), minlength=len(expected)).double()
    possible = expected > 0
    assert counts[~possible].sum() == 0
    means = expected[possible] * len(tokens)
    statistic = ((counts[possible] - means) ** 2 / means).sum()
    return float(torch.special.gammaincc(torch.tensor((len(means) - 1) / 2).double(), statistic / 2))


def warped(logits: torch.Tensor, **settings: float) -> torch.Tensor:
    """Return the distribution that transformers' own processors leave, in the order of its `generate`."""
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    kinds = {
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
    }
    for name, kind in kinds.items():
        if name in settings:
            logits = kind(settings[name])(None, logits)
    return logits.double().softmax(-1)[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 1.7, "top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_f10_draws_follow_the_distribution_that_transformers_makes(settings: dict[str, Any]) -> None:
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(1)) * 1.5
    expected = warped(logits, **settings)
    assert chi_square(drawn(logits, **settings), expected / expected.sum()) > 1e-4


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, [1.0, 0, 0, 0]), (0.6, [2 / 3, 1 / 3, 0, 0]), (0.8, [5 / 9, 5 / 18, 1 / 6, 0])]
)
def test_top_p_keeps_the_smallest_set_that_holds_p(top_p: float, kept: list[float]) -> None:
    shuffled = [2, 0, 3, 1]
    tokens = drawn(LOGITS[:, shuffled], top_p=top_p)
    found = torch.bincount(torch.tensor(tokens), minlength=4) / DRAWS
    assert found.tolist() == pytest.approx([kept[i] for i in shuffled], abs=0.015)


def test_the_noise_of_texts_positions_and_seeds_is_independent() -> None:
    even = torch.zeros(4000, 2)
    for keys, positions in (
        ([key_of(seed) for seed in range(4000)], [0] * 4000),
        ([key_of(0, sample) for sample in range(4000)], [3] * 4000),
        ([key_of(7)] * 4000, range(4000)),
    ):
        tokens, _ = choose(even.clone(), Sampling(**ALL), keys, positions)
        assert abs(sum(tokens) - 2000) < 160  # five standard deviations
        runs = sum(one != other for one, other in itertools.pairwise(tokens))
        assert abs(runs - 2000) < 160
    assert key_of(None) != key_of(None)


def test_banned_tokens_never_come() -> None:
    assert greedy(LOGITS, banned=frozenset({0})) == [1]
    assert set(drawn(LOGITS, 1000, banned=frozenset({0, 2}))) == {1, 3}


def test_zero_temperature_takes_the_likeliest_of_each_row() -> None:
    assert greedy(torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 2.0]])) == [1, 0]


def test_a_tiny_temperature_is_almost_greedy_and_never_nan() -> None:
    assert set(drawn(LOGITS * 1000, 10, temperature=1e-30)) == {0}


@pytest.mark.parametrize("penalty", [0.8, 1.0, 1.3])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    draw = torch.Generator().manual_seed(0)
    scores, seen = torch.randn(1, 50, generator=draw), torch.randint(50, (1, 20), generator=draw)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(seen, scores.clone())
    penalise(scores[0], seen[0].tolist(), penalty)
    assert torch.equal(scores, expected)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_is_an_error(temperature: float) -> None:
    for settings in ({}, {"top_k": 1}):
        with pytest.raises(LifelongError, match="NaN"):
            choose(
                torch.tensor([[0.0, math.nan]]), Sampling(**{**ALL, "temperature": temperature, **settings}), [0], [0]
            )


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": -0.1},
        {"top_p": 1.5},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
    ],
)
def test_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(LifelongError):
        Sampling(**setting)  # type: ignore[arg-type]


SETTINGS = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0.0), st.floats(0.01, 5)),
    top_k=st.integers(0, 25),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
)
ROW = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20)


@given(logits=ROW, sampling=SETTINGS, seed=st.integers(0, 1000))
def test_the_choice_is_always_allowed(logits: list[float], sampling: Sampling, seed: int) -> None:
    [chosen], _ = choose(torch.tensor([logits]), sampling, [key_of(seed)], [3])
    assert 0 <= chosen < len(logits)
    if sampling.top_k:
        assert logits[chosen] >= sorted(logits)[-min(sampling.top_k, len(logits))]


@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=40),
    sampling=SETTINGS,
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_choice_that_an_error_could_change_is_close(
    logits: list[float], sampling: Sampling, seed: int, data: st.DataObject
) -> None:
    error = 0.01
    size = error * max(1.0, abs(max(logits)))
    off = data.draw(st.lists(st.sampled_from([-size, 0.0, size]), min_size=len(logits), max_size=len(logits)))
    rows = torch.tensor([logits]), torch.tensor([logits]) + torch.tensor([off])
    (first, [close]), (second, _) = (choose(row, sampling, [key_of(seed)], [0], error=1.01 * error) for row in rows)
    assert first == second or close
