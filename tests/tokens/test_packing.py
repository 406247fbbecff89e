"""Packing: every document once, whole where it fits a row, and nothing padded."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lifelong.tokens.packing import aligned_order, best_fit

_LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80).map(lambda values: np.array(values, dtype=np.int64))


@given(_LENGTHS, st.integers(1, 40), st.integers(1, 20))
def test_every_document_comes_once(lengths: np.ndarray, size: int, pool: int) -> None:
    order = aligned_order(lengths, size, pool)
    assert sorted(order.tolist()) == list(range(len(lengths)))


@given(_LENGTHS, st.integers(60, 90))
def test_best_fit_overfills_no_row_and_places_all(lengths: np.ndarray, size: int) -> None:
    rows = best_fit(lengths, size)
    filled = np.bincount(rows, weights=lengths)
    assert filled.max() <= size
    assert filled.min() > 0
    # Any two rows that could share one would have: at most one is at most half full.
    assert (filled <= size / 2).sum() <= 1


def test_best_fit_takes_the_fullest_row_with_room() -> None:
    assert best_fit(np.array([6, 7, 3, 4]), 10).tolist() == [0, 1, 1, 0]


def _aligned(lengths: np.ndarray, size: int) -> float:
    """Return the share of rows that begin with a document."""
    begins = np.cumsum(lengths) - lengths
    return float(np.isin(np.arange(-(-int(lengths.sum()) // size)) * size, begins).mean())


def _cut(lengths: np.ndarray, size: int) -> int:
    """Return how many documents that would fit a row are cut by a row's end."""
    begins = np.cumsum(lengths) - lengths
    return int(((lengths <= size) & (begins // size != (begins + lengths - 1) // size)).sum())


def test_rows_begin_with_documents_and_few_are_cut() -> None:
    random = np.random.default_rng(0)
    for mean in (3.5, 5.0):
        lengths = np.clip(random.lognormal(mean, 1.0, 5000), 2, None).astype(np.int64)
        order = aligned_order(lengths, 256)
        assert _aligned(lengths[order], 256) > 20 * _aligned(lengths, 256)
        assert _cut(lengths[order], 256) < 0.1 * _cut(lengths, 256)


def test_the_order_is_frozen() -> None:
    # A run must find its rows again after any upgrade.
    lengths = np.array([5, 11, 3, 8, 2, 16, 7, 9, 4])
    assert aligned_order(lengths, 10, pool=4).tolist() == [3, 4, 0, 2, 5, 8, 1, 7, 6]
