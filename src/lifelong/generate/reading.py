"""What comes next, as a model sees it: one way to read for one model, and for several experts that answer as one."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from lifelong.model.experts import all_experts

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel


class Reader:
    """Reads tokens as they come, and tells what comes next. A context manager.

    The experts of a model that has several (see `lifelong.model.experts`) read in one batch, and what comes next is the
    mixture of their predictions, each weighed by how probable it found all that was read: the same mixture that
    `lifelong.evaluate.routing` measures.

    Args:
        model: the model, in evaluation mode.
        rows: texts read side by side.
        length: the most tokens of one text.
    """

    def __init__(self, model: LanguageModel, rows: int, length: int) -> None:
        self._model, self._rows, self._length = model, rows, length
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._count = 1 if self._model.experts is None else self._stack.enter_context(all_experts(self._model))
        self._cache = self._model.new_cache(self._count * self._rows, self._length)
        self._last: Tensor | None = None
        # Log of what each expert gave to all that was read, (experts, rows).
        self._evidence = next(self._model.parameters()).new_zeros(self._count, self._rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, ids_BT: Tensor) -> Tensor:
        """Read the next tokens, (rows, time), and return scores of what follows the last, (rows, vocabulary)."""
        logits = self._model.next_logits(ids_BT.repeat(self._count, 1), self._cache)
        if self._count == 1:
            return logits
        scores = logits.float().log_softmax(-1).view(self._count, self._rows, -1)
        self._weigh(ids_BT)
        self._last = scores
        return torch.logsumexp(scores + self._evidence.log_softmax(0).unsqueeze(-1), dim=0)

    def _weigh(self, ids_BT: Tensor) -> None:
        """Add what each expert gave to the tokens just read: to the first before it saw any of them."""
        if self._last is not None:
            first = ids_BT[:, :1].expand(self._count, -1, -1)
            self._evidence += self._last.gather(2, first).squeeze(2)
        if ids_BT.shape[1] > 1:
            assert self._last is None, "only the prompt is read in one piece"
            seen = ids_BT.repeat(self._count, 1)
            losses, _ = self._model.token_losses(seen[:, :-1], seen[:, 1:])
            self._evidence -= losses.sum(1).view(self._count, self._rows)
