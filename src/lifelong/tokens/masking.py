"""Hiding tokens for masked-language-model training: which, and what stands in their place.

The mask token is no token of any text: a tokenizer made here does not have it. A bidirectional model gives it the id
after the tokenizer's last, and its directory says so in ``tokenizer_config.json``. ``tokenizer.json`` stays as it is,
so ids, fingerprints and token caches are the same for every model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from lifelong.errors import LifelongError
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import splitmix64
from lifelong.tokens.rows import IGNORE
from lifelong.tokens.shards import Ids
from lifelong.tokens.special import MASK

SHARE = 0.15
# Of the chosen tokens, by Devlin et al. 2019 (arXiv:1810.04805), section 3.1: hidden, replaced by another, kept.
HIDDEN, REPLACED = 0.8, 0.1
_CHOICE, _FATE, _WORD = 1, 2, 3
_KNOWN = (MASK, "[MASK]", "<mask>")


def find_mask(tokenizer: Tokenizer) -> int:
    """Return the id of a tokenizer's mask token: its own, or the one that a new token would get.

    Raises:
        LifelongError: the vocabulary has holes, so that other libraries would give a new token an id that is taken.
    """
    marks = {token.content: number for number, token in _added(tokenizer).items() if token.special}
    if (own := next((marks[word] for word in _KNOWN if word in marks), None)) is not None:
        return own
    # Asked of the library that transformers will ask when it opens the model's directory.
    probe = Library.from_str(tokenizer.data.decode("utf-8"))
    probe.add_special_tokens([AddedToken(MASK, special=True, normalized=False)])
    if probe.token_to_id(MASK) != tokenizer.vocab_size:
        raise LifelongError(
            "this tokenizer's vocabulary has holes, so a mask token finds no place behind it",
            fix="Train one with `lifelong tokenizer train`.",
        )
    return tokenizer.vocab_size


@dataclass(frozen=True, eq=False)
class Masking:
    """Chooses 15% of every row's tokens (at least one), and hides 80% of them, replaces 10% and keeps 10%.

    Chosen are only tokens of text, never special ones. Everything is a function of (seed, number of the row, position)
    alone: the tokens hidden in a row of the next epoch are others (Liu et al. 2019, arXiv:1907.11692, section 4.1),
    and a resumed run hides what an uninterrupted one would.

    Attributes:
        mask_id: what stands for a hidden token.
        words: (n,) ids that a token is replaced by and that can be chosen: all but the special ones.
        hidden: share of the chosen tokens that is hidden.
        replaced: share of the chosen tokens that is replaced by a random one.
    """

    mask_id: int
    words: Ids = field(repr=False)
    seed: int = 0
    hidden: float = HIDDEN
    replaced: float = REPLACED

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, mask_id: int, seed: int = 0, *, hidden: float = HIDDEN, replaced: float = REPLACED
    ) -> Masking:
        """Return the masking of texts that a tokenizer encoded."""
        special = {number for number, token in _added(tokenizer).items() if token.special} | tokenizer.special_ids
        words = sorted(set(tokenizer.library.get_vocab(with_added_tokens=True).values()) - special - {mask_id})
        return cls(mask_id, np.array(words, dtype=np.int64), seed, hidden, replaced)

    @cached_property
    def _is_word(self) -> npt.NDArray[np.bool_]:
        table = np.zeros(1 + max(int(self.words.max()), self.mask_id), dtype=np.bool_)
        table[self.words] = True
        return table

    def words_of(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Return which ids are tokens of text, and can be chosen."""
        return self._is_word[np.minimum(ids, len(self._is_word) - 1)] & (ids < len(self._is_word))

    def hide(self, ids: Ids, numbers: Ids) -> tuple[Ids, Ids]:
        """Return what the model reads and what it has to tell: both (rows, time).

        Args:
            ids: (rows, time) tokens.
            numbers: (rows,) number of each row, the global sample index in training.

        Returns:
            ids with tokens hidden, and labels: the token itself where it was chosen, else -100.
        """
        able = self.words_of(ids)
        chances = np.where(able, self._draw(_CHOICE, numbers, ids.shape[1]), np.iinfo(np.uint64).max)
        ranks = np.argsort(np.argsort(chances, axis=1, kind="stable"), axis=1, kind="stable")
        wanted = np.maximum(1, np.floor(SHARE * able.sum(1) + 0.5))
        chosen = able & (ranks < wanted[:, None])
        fate = self._draw(_FATE, numbers, ids.shape[1]).astype(np.float64) * 2.0**-64
        other = self.words[(self._draw(_WORD, numbers, ids.shape[1]) % np.uint64(len(self.words))).astype(np.int64)]
        read = np.where(chosen & (fate < self.hidden), self.mask_id, ids)
        read = np.where(chosen & (fate >= self.hidden) & (fate < self.hidden + self.replaced), other, read)
        return read, np.where(chosen, ids, IGNORE)

    def _draw(self, what: int, numbers: Ids, width: int) -> npt.NDArray[np.uint64]:
        """Return (rows, width) 64-bit numbers that depend on seed, purpose, row and position alone."""
        key = splitmix64(splitmix64(np.array([self.seed], dtype=np.uint64)) ^ np.uint64(what))
        rows = splitmix64(splitmix64(numbers.astype(np.uint64)) ^ key)
        return splitmix64(rows[:, None] ^ splitmix64(np.arange(width, dtype=np.uint64))[None, :])


def _added(tokenizer: Tokenizer) -> dict[int, AddedToken]:
    found: dict[int, AddedToken] = tokenizer.library.get_added_tokens_decoder()
    return found
