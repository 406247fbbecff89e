"""What comes next, as a model sees it: one way to read for one model, and for several experts that answer as one."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Reads texts side by side, and tells what comes next in each. A context manager.

    Texts are rows, numbered from 0 without gaps. The experts of a model that has several (see `lifelong.model.experts`)
    read in one batch, and what comes next is the mixture of their predictions, each weighed by how probable it found
    all that was read of the text: the same mixture that `lifelong.evaluate.routing` measures, unless experts are
    dropped.

    Args:
        model: the model, in evaluation mode.
        rows: texts side by side at most.
        length: the most tokens of one text.
        fixed_share: of its weight that an expert gives to the others after every token; see `share_weights`.
        top_experts: how many experts go on with a text after its prompt: those that found it likeliest. An expert that
            goes on with none of the texts that begin first is not computed any more, and its keys and values are
            dropped; texts must therefore begin all at once. None: all experts go on.

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
        self._numbers = list(range(count))  # of the experts that still read
        self._decoder = self._model.new_decoder(self._rows, self._length, count)
        # For each expert and row: log-probabilities of what comes next, (experts, rows, vocabulary), and the log of its
        # weight up to a constant, (experts, rows): what it gave to all that was read.
        self._last: Tensor | None = None
        self._evidence = next(self._model.parameters()).new_zeros(count, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the beginnings of new texts, behind those there are; return scores of what follows, (texts, V)."""
        logits = self._decoder.read(prompts)
        if not self._names:
            return logits[0]
        if self._top is not None and self._evidence.shape[1]:
            raise ValueError("with top_experts all texts begin at once")
        keys = [tuple(prompt) for prompt in prompts]
        known = {key: self._read_for(key) for key in set(keys)}
        evidence, last = torch.stack([known[key] for key in keys], dim=1), logits.float().log_softmax(-1)
        self._evidence = torch.cat([self._evidence, evidence], dim=1)
        self._last = last if self._last is None else torch.cat([self._last, last], dim=1)
        if self._top is not None and self._top < len(self._names):
            self._keep(self._top)
        return self._mixed()[-len(prompts) :]

    def go_on(self, tokens: Sequence[int]) -> Tensor:
        """Read the next token of every text; return scores of what follows, (texts, V)."""
        next_B = torch.tensor(tokens, device=self._evidence.device)
        logits = self._decoder.step(next_B)
        if not self._names:
            return logits[0]
        assert self._last is not None
        first = next_B.view(1, -1, 1).expand(len(self._evidence), -1, 1)
        self._evidence = self._shared(self._evidence + self._last.gather(2, first).squeeze(2))
        self._last = logits.float().log_softmax(-1)
        return self._mixed()

    def read_alone(self, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Return scores of what follows a prompt and tokens, (1, V), as if nothing had been read beside them."""
        length = len(prompt) + len(tokens)
        try:
            with Reader(self._model, 1, length, fixed_share=self._share, top_experts=self._top) as alone:
                scores = alone.begin([prompt])
                for token in tokens:
                    scores = alone.go_on([token])
                return scores
        finally:
            if self._names:
                keep_experts(self._model, self._numbers)

    def leave(self, row: int) -> None:
        """Forget a text; the last one takes its number."""
        self._decoder.drop(row)
        if self._names:
            assert self._last is not None
            kept = list(range(self._evidence.shape[1]))
            kept[row] = kept[-1]
            self._evidence, self._last = self._evidence[:, kept[:-1]], self._last[:, kept[:-1]]

    def weights(self, row: int) -> dict[str, float]:
        """Return the weight of each expert that still reads, by name, given what was read; empty of a model alone."""
        return dict(zip(self._names, self._evidence[:, row].softmax(0).tolist(), strict=True)) if self._names else {}

    def _mixed(self) -> Tensor:
        assert self._last is not None
        return torch.logsumexp(self._last + self._evidence.log_softmax(0).unsqueeze(-1), dim=0)

    def _read_for(self, prompt: tuple[int, ...]) -> Tensor:
        """Return what each expert gave to the tokens of a prompt after its first, in log-probability, (experts,)."""
        evidence = self._evidence.new_zeros(len(self._evidence))
        if len(prompt) > 1:
            seen = torch.tensor([prompt], device=evidence.device).repeat(len(evidence), 1)
            losses, _ = self._model.token_losses(seen[:, :-1], seen[:, 1:])
            if not self._share:
                return -losses.sum(1)
            for nats in losses.unbind(1):
                evidence = self._shared(evidence - nats)
        return evidence

    def _shared(self, evidence: Tensor) -> Tensor:
        return share_weights(evidence.softmax(0), self._share).log() if self._share else evidence

    def _keep(self, count: int) -> None:
        """Let the experts that found a text likeliest go on with it without the others."""
        assert self._last is not None
        # Sorted stably, so that where nothing tells them apart the first stay: the base, then the oldest adapters.
        best = self._evidence.argsort(dim=0, descending=True, stable=True)[:count]
        own = torch.full_like(self._evidence, -torch.inf).scatter(0, best, self._evidence.gather(0, best))
        kept = sorted(set(best.flatten().tolist()))
        keep_experts(self._model, kept)
        self._decoder.keep_experts(kept)
        self._names, self._numbers = [self._names[number] for number in kept], kept
        self._evidence, self._last = own[kept], self._last[kept]
