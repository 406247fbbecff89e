"""What a batch costs: functions from (model, batch) to a loss sum in nats and the number of tokens it sums over."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lifelong.model.base import LanguageModel
from lifelong.tokens.loader import Batch


class Objective(Protocol):
    """Summed loss (scalar, nats) of one micro-batch; the loop divides by the tokens of the whole accumulated batch."""

    def __call__(self, model: LanguageModel, batch: Batch) -> Tensor:
        """Return the summed loss."""
        ...


def labelled_tokens(model: LanguageModel, batch: Batch) -> Tensor:
    """Cross-entropy of the labels, which the loader sets.

    Every next token in pretraining, those of the assistant's turns in chat tuning, the hidden ones of a bidirectional
    model.
    """
    return model.loss_sum(batch.input_ids, batch.labels, segment_ids=batch.segment_ids)


def trained_tokens(batch: Batch) -> int:
    """Return how many labels of a batch count."""
    return int((batch.labels != -100).sum())
