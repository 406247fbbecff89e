"""Rows of a fixed length, cut from a cache: windows of running text, or whole conversations packed together.

In every row, ``labels[t]`` is the token that follows ``ids[t]``, or -100 where nothing is to be learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.tokens.packing import aligned_order, best_fit
from lifelong.tokens.shards import Ids, TokenCache

IGNORE = -100
# Ids, labels and segment ids (or None), each (rows, time) int64.
Rows = tuple[Ids, Ids, Ids | None]


class RowSource(Protocol):
    """What the loader draws from: numbered rows of one length.

    Attributes:
        importance: weight of the loss of its tokens, beside that of other sources.
    """

    importance: float

    @property
    def sequence_length(self) -> int:
        """Positions in a row."""
        ...

    def __len__(self) -> int: ...

    @property
    def tokens_per_row(self) -> float:
        """Tokens in a row on average, padding not counted."""
        ...

    def rows(self, indices: Ids) -> Rows:
        """Return ids, labels and segment ids (or None), each (rows, time) int64."""
        ...

    def documents(self, row: int) -> tuple[TokenCache, list[int]]:
        """Return the cache that a row is cut from, and the numbers of its documents, in the row's order."""
        ...


class WindowSource:
    """Windows of ``sequence_length + 1`` tokens at a stride of ``sequence_length``: each token is a label once.

    The documents stand in the order of `aligned_order`, so that rows begin with a document where that costs nothing.
    The last window slides back to the end, so nothing is thrown away; labels it shares with the window before it are
    -100.

    Raises:
        LifelongError: the cache holds less than one window.
    """

    def __init__(self, cache: TokenCache, sequence_length: int) -> None:
        if cache.tokens < sequence_length + 1:
            raise LifelongError(
                f"less text than one sequence: {cache.tokens} tokens, a row of {sequence_length} needs "
                f"{sequence_length + 1}",
                where=str(cache.path),
                fix=f"Give more text, or pass --sequence-length {max(1, cache.tokens - 1)} or less.",
            )
        self.cache, self.sequence_length, self.importance = cache, sequence_length, 1.0
        lengths = np.diff(cache.starts)
        order = aligned_order(lengths, sequence_length)
        # Documents that stand together on disk, too, are one piece. The first piece is the end-of-text before them all.
        begins = cache.starts[order]
        ends = begins + lengths[order]
        first = np.flatnonzero(np.concatenate([[True], begins[1:] != ends[:-1]]))
        self._begins = np.concatenate([[0], begins[first]])
        sizes = np.concatenate([[1], np.add.reduceat(lengths[order], first)])
        self._places = np.cumsum(sizes) - sizes  # where each piece begins when they are laid end to end

    def __len__(self) -> int:
        return -(-(self.cache.tokens - 1) // self.sequence_length)

    @property
    def tokens_per_row(self) -> float:
        """Tokens in a row: all of it."""
        return float(self.sequence_length)

    def rows(self, indices: Ids) -> Rows:
        """Return ids and labels, each (rows, time) int64, and None."""
        size = self.sequence_length
        wanted = indices * size
        starts = np.minimum(wanted, self.cache.tokens - 1 - size)
        windows = np.empty((len(indices), size + 1), dtype=np.int64)
        self._fill(starts, windows, self.cache.read_into)
        labels = windows[:, 1:].copy()
        for row in np.flatnonzero(wanted - starts):
            labels[row, : wanted[row] - starts[row]] = IGNORE
        if self.cache.has_mask:
            mask = np.empty((len(indices), size + 1), dtype=np.bool_)
            self._fill(starts, mask, self.cache.read_mask_into)
            labels[~mask[:, 1:]] = IGNORE
        return windows[:, :-1].copy(), labels, None

    def documents(self, row: int) -> tuple[TokenCache, list[int]]:
        """Return the cache, and the numbers of the documents in a row."""
        start = min(row * self.sequence_length, self.cache.tokens - 1 - self.sequence_length)
        stop = start + self.sequence_length + 1
        found: list[int] = []
        first = int(np.searchsorted(self._places, start, side="right")) - 1
        for piece in range(first, int(np.searchsorted(self._places, stop - 1, side="right"))):
            begin, place = int(self._begins[piece]), int(self._places[piece])
            end = int(self._places[piece + 1]) if piece + 1 < len(self._places) else self.cache.tokens
            low, high = begin + max(0, start - place), begin + min(stop, end) - place
            numbers = np.searchsorted(self.cache.starts, [max(low, 1), high - 1], side="right") - 1
            # The end-of-text before all documents belongs to none.
            found += range(int(numbers[0]), int(numbers[1]) + 1) if high > 1 else []
        return self.cache, found

    def _fill(self, starts: Ids, out: npt.NDArray[Any], read_into: Callable[[int, npt.NDArray[Any]], None]) -> None:
        # Slices, not one index of all positions: a copy of a slice runs at the speed of memory.
        width = out.shape[1]
        firsts = np.searchsorted(self._places, starts, side="right") - 1
        lasts = np.searchsorted(self._places, starts + width - 1, side="right")
        for row, (start, first, last) in enumerate(zip(starts.tolist(), firsts.tolist(), lasts.tolist(), strict=True)):
            begins, places = self._begins[first:last].tolist(), self._places[first:last].tolist()
            at = 0
            for begin, place, upto in zip(begins, places, [*places[1:], start + width], strict=True):
                read_into(begin + max(0, start - place), out[row, at : upto - start])
                at = upto - start


class ChatSource:
    """Whole conversations packed into rows; attention must not cross from one segment to another.

    Conversations are placed in order, each into the fullest row that still has room (best fit). ``segment_ids`` count
    the conversations of a row from 0 and are -1 on padding.

    Attributes:
        truncated: conversations cut at the end, for being longer than a row.
        skipped: conversations left out, for having no answer in their first ``sequence_length`` tokens.

    Raises:
        LifelongError: the cache holds no conversation with an answer.
    """

    def __init__(self, cache: TokenCache, sequence_length: int) -> None:
        if not cache.has_mask:
            raise LifelongError(
                "the cache holds running text, not conversations",
                where=str(cache.path),
                fix='Give chat data: rows of {"messages": [...]}.',
            )
        self.cache, self.sequence_length, self.importance = cache, sequence_length, 1.0
        self.truncated = self.skipped = 0
        self._pad = int(cache.read(0, 1)[0])
        self._pack()
        if not len(self):
            raise LifelongError(
                f"no conversation has an answer within {sequence_length} tokens",
                where=str(cache.path),
                fix="Pass a longer --sequence-length.",
            )

    def _pack(self) -> None:
        """Place every conversation into a row; keep, ordered by row, where each begins, its length and its row."""
        size, cache = self.sequence_length, self.cache
        begins = cache.starts[:-1]
        # The last end of turn is a label only, and nothing is learned from it: neither it nor the end-of-text is input.
        inputs = np.diff(cache.starts) - 2
        lengths = np.minimum(inputs, size)
        learns = np.array([cache.read_mask(b + 1, b + n + 1).any() for b, n in zip(begins, lengths, strict=True)])
        self.skipped = int((~learns).sum())
        self.truncated = int((learns & (inputs > size)).sum())
        begins, lengths = begins[learns], lengths[learns]
        rows = best_fit(lengths, size)
        order = np.argsort(rows, kind="stable")
        self._begins, self._lengths = begins[order], lengths[order]
        # The conversations of row r are those from firsts[r] to firsts[r + 1].
        self._firsts = np.searchsorted(rows[order], np.arange(int(rows.max(initial=-1)) + 2))

    def __len__(self) -> int:
        return len(self._firsts) - 1

    @property
    def tokens_per_row(self) -> float:
        """Tokens in a row on average, padding not counted."""
        return float(self._lengths.sum()) / len(self)

    def rows(self, indices: Ids) -> Rows:
        """Return ids, labels and segment ids, each (rows, time) int64."""
        shape = len(indices), self.sequence_length
        ids = np.full(shape, self._pad, dtype=np.int64)
        labels = np.full(shape, IGNORE, dtype=np.int64)
        segments = np.full(shape, -1, dtype=np.int64)
        for row, index in enumerate(indices.tolist()):
            at = 0
            first, stop = self._firsts[index : index + 2].tolist()
            for segment in range(first, stop):
                begin, length = int(self._begins[segment]), int(self._lengths[segment])
                tokens = self.cache.read(begin, begin + length + 1)
                here = slice(at, at + length)
                ids[row, here], segments[row, here] = tokens[:-1], segment - first
                labels[row, here] = np.where(self.cache.read_mask(begin + 1, begin + length + 1), tokens[1:], IGNORE)
                at += length
        return ids, labels, segments

    def documents(self, row: int) -> tuple[TokenCache, list[int]]:
        """Return the cache, and the numbers of the conversations in a row."""
        begins = self._begins[self._firsts[row] : self._firsts[row + 1]]
        return self.cache, (np.searchsorted(self.cache.starts, begins, side="right") - 1).tolist()
