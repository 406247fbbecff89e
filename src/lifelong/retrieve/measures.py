"""How good a ranking is."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ndcg(gains: Sequence[float], possible: Sequence[float], k: int) -> float:
    """Return the normalised discounted cumulative gain at ``k``.

    The sum of gain / log2(rank + 1) over the first ``k`` ranks, divided by that of the best ranking there is
    (Järvelin and Kekäläinen 2002, with the gain itself as in trec_eval).

    Args:
        gains: of what was found, in its order; 0 where it is not relevant.
        possible: all gains that could have been found, in any order.
        k: ranks that count.
    """
    best = _dcg(sorted(possible, reverse=True), k)
    return _dcg(gains, k) / best if best else 0.0


def _dcg(gains: Sequence[float], k: int) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:k], start=1))


def recall(gains: Sequence[float], possible: Sequence[float], k: int) -> float:
    """Return which share of what is relevant stands among the first ``k``."""
    relevant = sum(gain > 0 for gain in possible)
    return sum(gain > 0 for gain in gains[:k]) / relevant if relevant else 0.0


def reciprocal_rank(gains: Sequence[float], k: int) -> float:
    """Return 1 / the rank of the first that is relevant, or 0 where none is among the first ``k`` (Voorhees 1999)."""
    return next((1 / rank for rank, gain in enumerate(gains[:k], start=1) if gain > 0), 0.0)


def covered(spans: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> float:
    """Return which share of the characters of some spans others hold (the recall of Smith and Troynikov 2024)."""
    want = {place for start, end in wanted for place in range(start, end)}
    have = {place for start, end in spans for place in range(start, end)}
    return len(want & have) / len(want) if want else 0.0
