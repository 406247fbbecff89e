"""Batches whose place is a pure function of (seed, global sample index): any step can be made without those before it.

Weights count tokens: a source whose rows are partly padding gets more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
from lifelong.tokens.shards import Ids, TokenCache

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "ChatSource", "Loader", "RowSource", "WindowSource"]

BLOCK = 1000  # rows over which the sources' shares are exact


@dataclass(slots=True)
class Batch:
    """Rows for one step.

    Attributes:
        input_ids: (batch, time) int64.
        labels: (batch, time) int64; -100 is not trained on.
        segment_ids: (batch, time) int64, or None where no row is packed; attention stays within equal values, -1 pads.
        weights: (batch, 1) fp32, the factor on the loss of each row's tokens, 1 on average over the mixture; None
            where all are alike.
        sources: (batch,) int64, which of the loader's sources each row is of.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    segment_ids: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    sources: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        tensors = (self.input_ids, self.labels, self.segment_ids, self.weights, self.sources)
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in tensors))  # type: ignore[arg-type]


class Loader:
    """Mixes sources by weight. Each source is visited in a fresh order every epoch, every row once.

    Args:
        sources: pairs of a source and its weight; weights need not sum to one.
        batch_size: rows in a batch.
        seed: of the mixture and of every order.
        hide: makes ids and labels, each (rows, time), of the rows' ids and their global sample indices, in place of
            the next token as label.

    Raises:
        LifelongError: no source, a weight that is not positive, rows of different lengths, or fewer rows than a batch.
    """

    def __init__(
        self,
        sources: Sequence[tuple[RowSource, float]],
        *,
        batch_size: int,
        seed: int = 0,
        hide: Callable[[Ids, Ids], tuple[Ids, Ids]] | None = None,
    ) -> None:
        if not sources:
            raise LifelongError("there is no source of text to load")
        if any(not 0 < weight < float("inf") for _, weight in sources):
            raise LifelongError("every weight must be a positive number")
        lengths = {source.sequence_length for source, _ in sources}
        if len(lengths) > 1:
            raise LifelongError(f"the sources have rows of different lengths: {sorted(lengths)}")
        rows = sum(len(source) for source, _ in sources)
        if rows < batch_size:
            raise LifelongError(
                f"less text than one batch: {rows} rows of {max(lengths)} tokens, a batch has {batch_size}",
                fix=f"Give more text, or pass --batch-size {rows} or less.",
            )
        self.sources = [source for source, _ in sources]
        self.batch_size, self.seed, self.sequence_length = batch_size, seed, lengths.pop()
        self.hide = hide
        self.factors = _factors(sources)
        self.shares = _shares([weight / source.tokens_per_row for source, weight in sources])
        # Kept for the last few epochs and blocks only: they are cheap to make again, and never wrong.
        self._order = lru_cache(maxsize=4 * len(sources))(self._make_order)
        self._block = lru_cache(maxsize=4)(self._make_block)

    @property
    def tokens_per_batch(self) -> int:
        """Positions in a batch."""
        return self.batch_size * self.sequence_length

    @property
    def epoch_rows(self) -> int:
        """Rows until the first source has been seen once in full, rows of the other sources included."""
        rounds, rest = divmod(len(self.sources[0]), self.shares[0])
        return rounds * BLOCK + -(-rest * BLOCK // self.shares[0])

    def rows(self, start: int, count: int) -> Batch:
        """Return ``count`` rows from global sample index ``start`` on: tensors of (count, time)."""
        import torch

        which, indices = self._locate(start, count)
        shape = count, self.sequence_length
        ids, labels = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        segments: Ids | None = None
        for source in np.unique(which):
            here = np.flatnonzero(which == source)
            ids[here], labels[here], found = self.sources[source].rows(indices[here])
            if found is not None:
                segments = np.zeros(shape, dtype=np.int64) if segments is None else segments
                segments[here] = found
        if self.hide is not None:
            ids, labels = self.hide(ids, np.arange(start, start + count))
        batch = Batch(torch.from_numpy(ids), torch.from_numpy(labels), sources=torch.from_numpy(which))
        if segments is not None:
            batch.segment_ids = torch.from_numpy(segments)
        if self.factors is not None:
            batch.weights = torch.from_numpy(self.factors[which][:, None])
        return batch

    def batch(self, step: int, *, rank: int = 0, world: int = 1) -> Batch:
        """Return the batch of a step, counted from 0: tensors of (batch, time).

        Of ``world`` processes each gets its own part, together
        the parts are the same batch whatever the number of processes.
        """
        first, stop = (part * self.batch_size // world for part in (rank, rank + 1))
        return self.rows(step * self.batch_size + first, stop - first)

    def documents(self, index: int) -> tuple[TokenCache, list[int]]:
        """Return the cache that a global sample is cut from, and the numbers of its documents there."""
        which, rows = self._locate(index, 1)
        return self.sources[int(which[0])].documents(int(rows[0]))

    def _locate(self, start: int, count: int) -> tuple[Ids, Ids]:
        """Return the sources and their rows of ``count`` samples from ``start`` on."""
        which, indices = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            block, at = divmod(start + done, BLOCK)
            sources, ranks = (values[at : at + count - done] for values in self._block(block))
            here = slice(done, done + len(sources))
            which[here] = sources
            for source in np.unique(sources):
                mine = sources == source
                epochs, places = np.divmod(block * self.shares[source] + ranks[mine], len(self.sources[source]))
                rows = np.empty(len(places), dtype=np.int64)
                for epoch in np.unique(epochs):
                    rows[epochs == epoch] = self._order(int(source), int(epoch))[places[epochs == epoch]]
                indices[here][mine] = rows
            done += len(sources)
        return which, indices

    def _make_block(self, block: int) -> tuple[Ids, Ids]:
        """Return for each row of a block its source, and how many rows of that source came before it in the block."""
        which = np.repeat(np.arange(len(self.shares)), self.shares)[permutation(BLOCK, self.seed, block, 0)]
        rank = np.empty(BLOCK, dtype=np.int64)
        for source, share in enumerate(self.shares):
            rank[which == source] = np.arange(share)
        return which, rank

    def _make_order(self, source: int, epoch: int) -> Ids:
        return permutation(len(self.sources[source]), self.seed, epoch, source + 1)


def _factors(sources: Sequence[tuple[RowSource, float]]) -> npt.NDArray[np.float32] | None:
    """Return the factor on the loss of each source's tokens: its importance over the mixture's mean, token by token.

    The mean is over the whole mixture, not over a batch: a batch that is all of important text weighs more than others.
    """
    importance = np.array([source.importance for source, _ in sources])
    if (importance == importance[0]).all():
        return None
    weights = np.array([weight for _, weight in sources])
    factors = importance * weights.sum() / (importance * weights).sum()
    return np.asarray(factors, dtype=np.float32)


def _shares(weights: Sequence[float]) -> list[int]:
    """Return rows of each source in a block, by largest remainder; each source gets at least one."""
    exact = [weight / sum(weights) * BLOCK for weight in weights]
    shares = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(shares)), key=lambda index: (shares[index] - exact[index], index))
    for step in range(BLOCK - sum(shares)):
        shares[by_remainder[step % len(shares)]] += 1
    while sum(shares) > BLOCK:  # many tiny weights were lifted to one row each
        shares[shares.index(max(shares))] -= 1
    return shares


def permutation(size: int, *key: int) -> Ids:
    """Return a permutation of ``size`` that depends on the key alone.

    Sorting by a hash instead of numpy's shuffle: numpy does not promise the same stream in its next version, and a run
    must go on exactly after an upgrade. Ties of 64-bit hashes fall back to the index.
    """
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = splitmix64(state ^ np.uint64(part & 0xFFFF_FFFF_FFFF_FFFF))
    hashes = splitmix64(splitmix64(np.arange(size, dtype=np.uint64)) ^ state)
    return np.argsort(hashes, kind="stable").astype(np.int64)


def splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix 64 bits (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
