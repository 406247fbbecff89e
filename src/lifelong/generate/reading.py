"""What comes next, as a model sees it: one way to read for one model, and for several experts that answer as one."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.model.experts import Experts, all_experts, check_fixed_share, keep_experts, share_weights

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel


class Reader:
    """Reads tokens as they come, and tells what comes next. A context manager.

    The experts of a model that has several (see `lifelong.model.experts`) read in one batch, and what comes next is the
    mixture of their predictions, each weighed by how probable it found all that was read: the same mixture that
    `lifelong.evaluate.routing` measures, unless experts are dropped.

    Args:
        model: the model, in evaluation mode.
        rows: texts read side by side.
        length: the most tokens of one text.
        fixed_share: of its weight that an expert gives to the others after every token; see `share_weights`.
        top_experts: how many experts read on after what is read first, the prompt: those that found it likeliest, over
            all rows. The others are not computed any more, and their keys and values are dropped. None: all read on.

    Raises:
        LifelongError: a setting is out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: int,
        length: int,
        *,
        fixed_share: float = 0.0,
        top_experts: int | None = None,
    ) -> None:
        check_fixed_share(fixed_share)
        if top_experts is not None and top_experts < 1:
            raise LifelongError(f"{top_experts} experts cannot read on: at least one has to", where="top_experts")
        self._model, self._rows, self._length = model, rows, length
        self._share, self._top = fixed_share, top_experts
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        experts = self._model.experts
        self._names: list[str] = experts.names if isinstance(experts, Experts) else []
        count = self._stack.enter_context(all_experts(self._model)) if self._names else 1
        self._cache = self._model.new_cache(count * self._rows, self._length)
        self._last: Tensor | None = None
        # Log of the weight of each expert, up to a constant: what it gave to all that was read, (experts, rows).
        self._evidence = next(self._model.parameters()).new_zeros(count, self._rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, ids_BT: Tensor) -> Tensor:
        """Read the next tokens, (rows, time), and return scores of what follows the last, (rows, vocabulary)."""
        count = len(self._evidence)
        logits = self._model.next_logits(ids_BT.repeat(count, 1), self._cache)
        if count == 1:
            return logits
        begins = self._last is None
        self._weigh(ids_BT)
        self._last = logits.float().log_softmax(-1).view(count, self._rows, -1)
        if begins and self._top is not None and self._top < count:
            self._keep(self._top)
        return torch.logsumexp(self._last + self._evidence.log_softmax(0).unsqueeze(-1), dim=0)

    def weights(self, row: int) -> dict[str, float]:
        """Return the weight of each expert that still reads, by name, given what was read; empty of a model alone."""
        return dict(zip(self._names, self._evidence[:, row].softmax(0).tolist(), strict=True)) if self._names else {}

    def _weigh(self, ids_BT: Tensor) -> None:
        """Add what each expert gave to the tokens just read: to the first before it saw any of them."""
        count = len(self._evidence)
        if self._last is not None:
            first = ids_BT[:, :1].expand(count, -1, -1)
            self._add(self._last.gather(2, first).squeeze(2))
        if ids_BT.shape[1] > 1:
            assert self._last is None, "only the prompt is read in one piece"
            seen = ids_BT.repeat(count, 1)
            losses, _ = self._model.token_losses(seen[:, :-1], seen[:, 1:])
            if self._share:
                for nats in losses.view(count, self._rows, -1).unbind(2):
                    self._add(-nats)
            else:
                self._add(-losses.sum(1).view(count, self._rows))

    def _add(self, logs: Tensor) -> None:
        self._evidence += logs
        if self._share:
            self._evidence = share_weights(self._evidence.softmax(0), self._share).log()

    def _keep(self, count: int) -> None:
        """Let the experts that found likeliest what was read go on without the others."""
        assert self._last is not None
        # Sorted stably, so that where nothing tells them apart the first stay: the base, then the oldest adapters.
        kept = self._evidence.sum(1).argsort(descending=True, stable=True)[:count].sort().values
        keep_experts(self._model, kept.tolist())
        rows = kept.unsqueeze(1) * self._rows + torch.arange(self._rows, device=kept.device)
        self._model.keep_rows(self._cache, rows.flatten())
        self._names = [self._names[number] for number in kept.tolist()]
        self._evidence, self._last = self._evidence[kept], self._last[kept]
