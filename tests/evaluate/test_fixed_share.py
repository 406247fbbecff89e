"""Fixed share against its definition: a mixture over all sequences of experts, each with its probability."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.evaluate.routing import Panel, bound_bits, fixed_share_bits, mixture
from lifelong.evaluate.windows import Scored


@st.composite
def losses(draw: st.DrawFn) -> np.ndarray:
    """Any losses in nats: (experts, tokens)."""
    experts, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    values = st.floats(0, 30)
    return np.array([[draw(values) for _ in range(tokens)] for _ in range(experts)])


@given(losses(), st.floats(1e-6, 0.999))
def test_fixed_share_is_the_mixture_over_all_sequences_and_no_text_costs_more_than_its_bound(
    rows: np.ndarray, share: float
) -> None:
    experts, tokens = rows.shape
    total = mixture(list(rows), fixed_share=share)[0].sum()
    logs = []
    for sequence in itertools.product(range(experts), repeat=tokens):
        cost = sum(rows[expert, token] for token, expert in enumerate(sequence))
        changes = sum(now != before for before, now in itertools.pairwise(sequence))
        stays = tokens - 1 - changes
        prior = (share / (experts - 1)) ** changes * (1 - share) ** stays / experts if experts > 1 else 1.0
        logs.append(math.log(prior) - cost)
        assert total <= cost + fixed_share_bits(experts, tokens, share, changes) * math.log(2) + 1e-7
    assert total == pytest.approx(-np.logaddexp.reduce(logs), abs=1e-7)


@given(losses())
def test_without_a_share_it_is_the_plain_mixture_to_the_bit_and_close_to_it_with_a_tiny_one(rows: np.ndarray) -> None:
    (plain, likeliest), (zero, same) = mixture(list(rows)), mixture(list(rows), fixed_share=0.0)
    assert np.array_equal(plain, zero) and np.array_equal(likeliest, same)
    assert mixture(list(rows), fixed_share=1e-300)[0] == pytest.approx(plain, abs=1e-6)


def test_the_price_in_bits() -> None:
    assert fixed_share_bits(4, 1000, 0.0) == bound_bits(4) == 2
    assert fixed_share_bits(2, 11, 0.5) == pytest.approx(1 + 10)
    assert fixed_share_bits(5, 11, 0.5, changes=2) == pytest.approx(math.log2(5) + 2 * 3 + 8)
    assert fixed_share_bits(3, 10, 0.0, changes=1) == math.inf  # the plain mixture never turns round for certain
    assert fixed_share_bits(1, 10, 0.3, changes=0) == 0


def test_a_long_text_of_two_topics_costs_little_more_than_its_best_sequence() -> None:
    first, second = np.full(20_000, 0.1), np.full(20_000, 700.0)
    swapped = [np.concatenate(parts) for parts in ((first, second), (second, first))]
    plain, shared = mixture(swapped)[0], mixture(swapped, fixed_share=0.001)[0]
    best = 40_000 * 0.1
    assert plain.sum() > best + 1e6
    assert best <= shared.sum() <= best + fixed_share_bits(2, 40_000, 0.001, changes=1) * math.log(2) + 1e-6


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    panel = Panel([Scored([1, 2], [False, True])], 8, {"base": [(np.array([1.0]), np.array([True]))]})
    with pytest.raises(LifelongError, match="fixed share"):
        panel.tallies(fixed_share=share)
