"""Span corruption for encoder-decoder models: which pieces of a text are taken out, and what stands for them.

Raffel et al. 2020 (arXiv:1910.10683), section 3.1.4, with the reference implementation's choice of spans: 15% of the
tokens in spans of 3 on average. The model reads ``Thank <0> inviting <1>.<end>``, and writes
``<0> you for <1> me<end>``.

The sentinels are no tokens of any text. A tokenizer made here does not have them: a model gives them the ids after the
tokenizer's last, the first sentinel the highest id, as T5 does (``<extra_id_99>`` … ``<extra_id_0>``). Its directory
says so in ``tokenizer_config.json``; ``tokenizer.json`` stays as it is, so ids and token caches are the same for every
model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from lifelong.errors import LifelongError
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import splitmix64
from lifelong.tokens.shards import Ids

SHARE, MEAN_LENGTH = 0.15, 3.0
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(100))
_KEPT, _TAKEN = 1, 2


def find_sentinels(tokenizer: Tokenizer) -> Ids:
    """Return the ids (100,) of the sentinels, the first first: the tokenizer's own, or those that new ones would get.

    Raises:
        LifelongError: the vocabulary has holes, so that other libraries would give new tokens ids that are taken.
    """
    own = [tokenizer.library.token_to_id(token) for token in SENTINELS]
    if all(number is not None for number in own):
        return np.array(own, dtype=np.int64)
    # Asked of the library that transformers will ask when it opens the model's directory.
    probe = Library.from_str(tokenizer.data.decode("utf-8"))
    probe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in reversed(SENTINELS)])
    vocabulary = probe.get_vocab(with_added_tokens=True)
    ids = [vocabulary[token] for token in SENTINELS]
    if min(ids) != tokenizer.vocab_size:
        raise LifelongError(
            "this tokenizer's vocabulary has holes, so the sentinels find no place behind it",
            fix="Train one with `lifelong tokenizer train`.",
        )
    return np.array(ids, dtype=np.int64)


def new_sentinels(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the sentinels that a tokenizer lacks, in the order in which they are added behind its vocabulary."""
    lacking = tokenizer.library.token_to_id(SENTINELS[0]) is None
    return tuple(reversed(SENTINELS)) if lacking else ()


def sizes(length: int) -> tuple[int, int]:
    """Return how many of ``length`` tokens (2 or more) are taken out, and in how many spans."""
    taken = min(max(1, int(length * SHARE + 0.5)), length - 1)
    return taken, min(max(1, int(taken / MEAN_LENGTH + 0.5)), length - taken)


@dataclass(frozen=True, eq=False)
class Spans:
    """Takes spans out of rows. Which ones is a function of (seed, number of the row) alone.

    Attributes:
        sentinels: (n,) ids that stand for the spans, in order.
        end_id: what ends both the text read and the text to write.
    """

    sentinels: Ids
    end_id: int
    seed: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer, seed: int = 0) -> Spans:
        """Return the span corruption of texts that a tokenizer encoded."""
        return cls(find_sentinels(tokenizer), tokenizer.eos_id, seed)

    @property
    def longest(self) -> int:
        """Tokens of the longest row for which there are sentinels enough."""
        return int((len(self.sentinels) + 0.4) * MEAN_LENGTH / SHARE) - int(MEAN_LENGTH / SHARE)

    def corrupt(self, ids: Ids, numbers: Ids) -> tuple[Ids, Ids]:
        """Return what the encoder reads and what the decoder has to write.

        Args:
            ids: (rows, time) tokens, two at least in a row.
            numbers: (rows,) number of each row, the global sample index in training.

        Returns:
            of ``taken, spans = sizes(time)``: inputs (rows, time - taken + spans + 1) and targets
            (rows, taken + spans + 1). Together they hold every token once, each sentinel twice, and two ends.

        Raises:
            LifelongError: the rows are too long for the sentinels there are.
        """
        rows, time = ids.shape
        taken, spans = sizes(time)
        if spans > len(self.sentinels):
            raise LifelongError(
                f"rows of {time} tokens have {spans} gaps, and there are {len(self.sentinels)} sentinels",
                fix=f"Pass --sequence-length {self.longest} or less.",
            )
        kept_lengths = self._lengths(_KEPT, numbers, time - taken, spans)
        taken_lengths = self._lengths(_TAKEN, numbers, taken, spans)
        inputs = np.full((rows, time - taken + spans + 1), self.end_id, dtype=np.int64)
        targets = np.full((rows, taken + spans + 1), self.end_id, dtype=np.int64)
        sentinels = self.sentinels[:spans]
        for row in range(rows):
            lengths = np.stack([kept_lengths[row], taken_lengths[row]], axis=1).ravel()
            out = np.repeat(np.arange(2 * spans) % 2 == 1, lengths)
            inputs[row, :-1] = np.insert(ids[row][~out], np.cumsum(kept_lengths[row]), sentinels)
            targets[row, :-1] = np.insert(ids[row][out], np.cumsum(taken_lengths[row]) - taken_lengths[row], sentinels)
        return inputs, targets

    def _lengths(self, what: int, numbers: Ids, total: int, parts: int) -> Ids:
        """Return (rows, parts) lengths of at least 1 that add up to ``total``, all ways to do so equally likely."""
        order = np.argsort(self._draw(what, numbers, total - 1), axis=1, kind="stable")
        cuts = np.sort(order[:, : parts - 1], axis=1) + 1
        edges = np.concatenate([np.zeros_like(cuts[:, :0], shape=(len(numbers), 1)), cuts], axis=1)
        return np.diff(edges, axis=1, append=total)

    def _draw(self, what: int, numbers: Ids, width: int) -> npt.NDArray[np.uint64]:
        """Return (rows, width) 64-bit numbers that depend on seed, purpose, row and position alone."""
        key = splitmix64(splitmix64(np.array([self.seed], dtype=np.uint64)) ^ np.uint64(what))
        rows = splitmix64(splitmix64(numbers.astype(np.uint64)) ^ key)
        return splitmix64(rows[:, None] ^ splitmix64(np.arange(width, dtype=np.uint64))[None, :])
