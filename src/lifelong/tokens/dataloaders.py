"""Lists of texts as padded batches: for training loops of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lifelong.errors import LifelongError
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import permutation
from lifelong.tokens.rows import IGNORE

if TYPE_CHECKING:
    import torch


class TextBatches:
    """Batches of texts, in a fresh order every time it is iterated over (where it shuffles).

    A text longer than ``max_length`` goes on in the next row, so nothing is cut off; each ends with the end-of-text.

    Args:
        texts: the texts; at least one.
        tokenizer: a trained tokenizer.
        batch_size: rows in a batch; the last batch may have fewer.
        max_length: tokens in a row, at most.
        shuffle: whether the order changes; it depends on the seed and the epoch alone.
        seed: of the orders.

    Attributes:
        tokenizer: the tokenizer.
        epoch: how often it was iterated over; set it to start elsewhere.

    Raises:
        LifelongError: there are no texts, or a size is not positive.
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        batch_size: int,
        max_length: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if not texts:
            raise LifelongError("there are no texts to make batches of", fix="Give at least one text.")
        if min(batch_size, max_length) < 1:
            raise LifelongError(f"batch_size {batch_size} and max_length {max_length} must be positive")
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0
        self.tokenizer, self.pad_id = tokenizer, tokenizer.pad_id
        encoded = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode_batch(list(texts))]
        self.rows = [ids[at : at + max_length] for ids in encoded for at in range(0, len(ids), max_length)]

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield ``input_ids``, ``labels`` and ``attention_mask``, each (batch, time) int64.

        As Hugging Face models take them: ``labels`` are the ``input_ids`` themselves (the model shifts them), -100
        where a row is filled up; ``attention_mask`` is 0 there.
        """
        import torch

        order = permutation(len(self.rows), self.seed, self.epoch) if self.shuffle else np.arange(len(self.rows))
        self.epoch += 1
        for first in range(0, len(order), self.batch_size):
            rows = [self.rows[index] for index in order[first : first + self.batch_size].tolist()]
            width = max(map(len, rows))
            yield {
                "input_ids": torch.tensor([row + [self.pad_id] * (width - len(row)) for row in rows]),
                "labels": torch.tensor([row + [IGNORE] * (width - len(row)) for row in rows]),
                "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
            }


def create_dataloaders(
    train_texts: Sequence[str],
    val_texts: Sequence[str],
    tokenizer: Tokenizer,
    batch_size: int = 16,
    max_length: int = 512,
    *,
    seed: int = 0,
) -> tuple[TextBatches, TextBatches | None]:
    """Return batches of training texts (shuffled) and of validation texts (in order; None where there are none).

    Raises:
        LifelongError: as `TextBatches`.
    """
    train = TextBatches(train_texts, tokenizer, batch_size, max_length, seed=seed)
    val = TextBatches(val_texts, tokenizer, batch_size, max_length, shuffle=False) if val_texts else None
    return train, val
