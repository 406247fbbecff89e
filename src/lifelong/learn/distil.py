"""Learning from teachers: next to the text itself, the probabilities that a teacher gives every next token.

The loss is the cross-entropy against (1 - α) times the token that came plus α times the teacher's distribution, which
is α times the Kullback-Leibler divergence from the teacher, the text's own loss, and a constant (Hinton et al. 2015,
arXiv:1503.02531, at temperature 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lifelong.model.base import LanguageModel
from lifelong.model.experts import use_expert
from lifelong.tokens.loader import Batch
from lifelong.train.objectives import labelled_tokens

_SLICE_LOGITS = 1 << 22  # logits held at once: 16 MiB of fp32


@dataclass(frozen=True)
class Distillation:
    """An objective: text and teachers together.

    Attributes:
        teacher: a model whose experts are the teachers; it is not trained.
        teachers: of each of the loader's sources: the expert that teaches its rows, `BASE` where the teacher has none,
            and its part α of the loss; with 0 the rows are learned from their text alone.
    """

    teacher: LanguageModel
    teachers: Sequence[tuple[str, float]]

    def __call__(self, model: LanguageModel, batch: Batch) -> Tensor:
        """Return the summed loss (scalar, nats) of one micro-batch."""
        assert batch.sources is not None
        total = torch.zeros((), device=model.device)
        of_rows = [self.teachers[source] for source in batch.sources.tolist()]
        for name, alpha in sorted(set(of_rows)):
            rows = torch.tensor([number for number, teacher in enumerate(of_rows) if teacher == (name, alpha)])
            part = _rows(batch, rows.to(model.device))
            total = total + (self._taught_by(name, alpha, model, part) if alpha else labelled_tokens(model, part))
        return total

    def _taught_by(self, name: str, alpha: float, model: LanguageModel, batch: Batch) -> Tensor:
        if self.teacher.experts is not None:
            use_expert(self.teacher, name)
        kept = batch.labels != -100
        with torch.no_grad():
            theirs = self.teacher.hidden(batch.input_ids, segment_ids=batch.segment_ids)[kept]
        ours = model.hidden(batch.input_ids, segment_ids=batch.segment_ids)[kept]
        labels = batch.labels[kept]
        weights = None if batch.weights is None else batch.weights.expand_as(batch.labels)[kept]
        size = max(1, _SLICE_LOGITS // model.config.vocab_size)
        total = torch.zeros((), device=ours.device)
        for start in range(0, len(labels), size):
            here = slice(start, start + size)
            part = None if weights is None else weights[here]
            # The logits of a slice are made again in the backward pass: those of all tokens would not fit.
            total = total + checkpoint(
                self._slice_loss, alpha, model, ours[here], theirs[here], labels[here], part, use_reentrant=False
            )
        return total

    def _slice_loss(
        self, alpha: float, model: LanguageModel, ours: Tensor, theirs: Tensor, labels: Tensor, weights: Tensor | None
    ) -> Tensor:
        target = (theirs @ self.teacher.output_weight.detach().T).float().softmax(-1) * alpha
        target.scatter_add_(1, labels[:, None], torch.full_like(target[:, :1], 1 - alpha))
        losses = F.cross_entropy((ours @ model.output_weight.T).float(), target, reduction="none")
        return (losses if weights is None else losses * weights).sum()


def _rows(batch: Batch, rows: Tensor) -> Batch:
    segments = None if batch.segment_ids is None else batch.segment_ids[rows]
    weights = None if batch.weights is None else batch.weights[rows]
    return Batch(batch.input_ids[rows], batch.labels[rows], segments, weights)
