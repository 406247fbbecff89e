"""Rows of a fixed length, cut from a cache: windows of running text, or whole conversations packed together.

In every row, ``labels[t]`` is the token that follows ``ids[t]``, or -100 where nothing is to be learned.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lifelong.errors import LifelongError
from lifelong.tokens.shards import Ids, TokenCache

IGNORE = -100
Row = tuple[Ids, Ids, Ids | None]


class RowSource(Protocol):
    """What the loader draws from: numbered rows of one length."""

    @property
    def sequence_length(self) -> int:
        """Positions in a row."""
        ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row:
        """Return ids, labels and segment ids (or None), each (time,) int64."""
        ...


class WindowSource:
    """Windows of ``sequence_length + 1`` tokens at a stride of ``sequence_length``: each token is a label once.

    The last window slides back to the end of the cache, so nothing is thrown away; labels it shares with the window
    before it are -100.

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
        self.cache, self.sequence_length = cache, sequence_length

    def __len__(self) -> int:
        return -(-(self.cache.tokens - 1) // self.sequence_length)

    def row(self, index: int) -> Row:
        """Return ids (time,), labels (time,) and None."""
        assert 0 <= index < len(self), index
        wanted = index * self.sequence_length
        start = min(wanted, self.cache.tokens - 1 - self.sequence_length)
        window = self.cache.read(start, start + self.sequence_length + 1)
        labels = window[1:].copy()
        labels[: wanted - start] = IGNORE
        if self.cache.has_mask:
            labels[~self.cache.read_mask(start + 1, start + self.sequence_length + 1)] = IGNORE
        return window[:-1], labels, None


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
        self.cache, self.sequence_length = cache, sequence_length
        self.truncated = self.skipped = 0
        self._pad = int(cache.read(0, 1)[0])
        self._rows = self._pack()
        if not self._rows:
            raise LifelongError(
                f"no conversation has an answer within {sequence_length} tokens",
                where=str(cache.path),
                fix="Pass a longer --sequence-length.",
            )

    def _pack(self) -> list[list[int]]:
        size = self.sequence_length
        starts = self.cache.starts
        trained = np.concatenate([[0], np.cumsum(self.cache.read_mask(0, self.cache.tokens))])
        rows: list[list[int]] = []
        open_rows: list[list[int]] = [[] for _ in range(size + 1)]  # by room left
        for index in range(self.cache.documents):
            start, stop = int(starts[index]), int(starts[index + 1])
            length = min(_inputs(start, stop), size)
            if trained[start + length + 1] == trained[start + 1]:
                self.skipped += 1
                continue
            self.truncated += length < _inputs(start, stop)
            room = next((room for room in range(length, size + 1) if open_rows[room]), None)
            if room is None:
                rows.append([])
                room, number = size, len(rows) - 1
            else:
                number = open_rows[room].pop()
            rows[number].append(index)
            open_rows[room - length].append(number)
        return rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        """Return ids, labels and segment ids, each (time,) int64."""
        size = self.sequence_length
        ids = np.full(size, self._pad, dtype=np.int64)
        labels = np.full(size, IGNORE, dtype=np.int64)
        segments = np.full(size, -1, dtype=np.int64)
        at = 0
        for segment, document in enumerate(self._rows[index]):
            start, stop = (int(value) for value in self.cache.starts[document : document + 2])
            length = min(_inputs(start, stop), size)
            tokens = self.cache.read(start, start + length + 1)
            mask = self.cache.read_mask(start + 1, start + length + 1)
            here = slice(at, at + length)
            ids[here], labels[here], segments[here] = tokens[:-1], np.where(mask, tokens[1:], IGNORE), segment
            at += length
        return ids, labels, segments


def _inputs(start: int, stop: int) -> int:
    # The last end of turn is a label only, and nothing is learned from it: neither it nor the end-of-text is an input.
    return stop - start - 2
