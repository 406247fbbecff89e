"""Prompt and completion as rows for encoder-decoder models: what is read, and what is to be written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.tokens.rows import IGNORE, Rows
from lifelong.tokens.shards import Ids, TokenCache


def answers(trained: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of every run of trained tokens that something stands before: the answers of a chat."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], trained, [False]])))
    for begin, end in edges.reshape(-1, 2).tolist():
        if begin:
            yield begin, end


class PairSource:
    """Every answer of a cache of conversations: all that stands before it is read, the answer is to be written.

    ``ids`` are the prompt, ``labels`` the answer with its end of turn; each begins at the left of its row, whatever the
    other's length. ``segment_ids`` are 0 on the prompt and -1 behind it. Of a long prompt the end is kept, of a long
    answer the beginning.

    Attributes:
        truncated: pairs of which a prompt or an answer is cut.
        skipped: documents without an answer.

    Raises:
        LifelongError: the cache holds no conversation with an answer.
    """

    def __init__(self, cache: TokenCache, sequence_length: int) -> None:
        self.cache, self.sequence_length, self.importance = cache, sequence_length, 1.0
        self.truncated = self.skipped = 0
        self._pad = int(cache.read(0, 1)[0])
        found: list[tuple[int, int, int]] = []
        for start, stop in zip(cache.starts[:-1].tolist(), cache.starts[1:].tolist(), strict=True):
            pairs = [(start, start + begin, start + end) for begin, end in answers(cache.read_mask(start, stop))]
            self.skipped += not pairs
            found += pairs
        if not found:
            raise LifelongError(
                "no conversation has an answer", where=str(cache.path), fix='Give chat data: {"messages": [...]}.'
            )
        self._pairs = np.array(found, dtype=np.int64)
        lengths = np.diff(self._pairs, axis=1)
        self.truncated = int((lengths > sequence_length).any(1).sum())
        self._tokens = float(np.minimum(lengths, sequence_length).sum())

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def tokens_per_row(self) -> float:
        """Tokens of a prompt and its answer on average."""
        return self._tokens / len(self)

    def rows(self, indices: Ids) -> Rows:
        """Return ids, labels and segment ids, each (rows, time) int64."""
        shape = len(indices), self.sequence_length
        ids = np.full(shape, self._pad, dtype=np.int64)
        labels = np.full(shape, IGNORE, dtype=np.int64)
        segments = np.full(shape, -1, dtype=np.int64)
        for row, (start, begin, end) in enumerate(self._pairs[indices].tolist()):
            prompt = self.cache.read(max(start, begin - self.sequence_length), begin)
            answer = self.cache.read(begin, min(end, begin + self.sequence_length))
            ids[row, : len(prompt)], segments[row, : len(prompt)] = prompt, 0
            labels[row, : len(answer)] = answer
        return ids, labels, segments

    def documents(self, row: int) -> tuple[TokenCache, list[int]]:
        """Return the cache, and the number of the conversation of a row."""
        return self.cache, [int(np.searchsorted(self.cache.starts, self._pairs[row, 0], side="right")) - 1]
