"""Texts that are written side by side: they join and leave while others go on (continuous batching).

`Engine` is what a user of it needs, whatever runs the model; `Slots` is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import torch
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.generate.reading import Reader
from lifelong.generate.sampling import Sampling, choose, key_of, penalise
from lifelong.model.seq2seq import EncoderDecoderModel

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel

Finish = Literal["stop", "length"]

# How far a batch's scores may be from those of a text alone, as a share of the largest. Measured: at most 3e-6.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Step:
    """One more token of a text.

    Attributes:
        handle: of the text; see `Engine.join`.
        token: its next token; one that ends a text is no part of it.
        finish: why it ends: ``"stop"`` at such a token, ``"length"`` after as many tokens as were asked for; None: it
            goes on.
        logprob: the token's log-probability before temperature and limits, if asked for.
        top: the likeliest tokens and theirs, as many as were asked for.
        experts: at the end, the weight of each expert with which the last token was chosen.
    """

    handle: int
    token: int
    finish: Finish | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    experts: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """What writes texts side by side."""

    @property
    def free(self) -> int:
        """How many more texts can join."""
        ...

    def join(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        seed: int | None = None,
        sample: int = 0,
        stop_ids: Collection[int] = (),
        logprobs: int | None = None,
    ) -> int:
        """Begin a text after the tokens ``ids``; returns a handle. It is read at the next `step`."""
        ...

    def step(self) -> list[Step]:
        """Write one more token of every text; those that end leave."""
        ...

    def leave(self, handle: int) -> dict[str, float]:
        """Give a text up; returns its experts' weights, see `Step`."""
        ...


@dataclass
class _Text:
    handle: int
    prompt: list[int]
    sampling: Sampling
    key: int
    left: int  # tokens still to write
    ends: frozenset[int]
    logprobs: int | None
    written: list[int] = field(default_factory=list)


class Slots:
    """Writes up to ``rows`` texts of at most ``length`` tokens with a model. A context manager.

    The same seed gives the same text, whatever is written beside it, on a CPU in fp32: there products of several rows
    round otherwise than those of one, and where that could change a choice, the text is read once more by itself.

    Args:
        model: the model; its training mode is restored afterwards.
        rows: texts side by side at most.
        length: tokens of a text at most, prompt included.
        vocab_size: tokens that may be written: imported models may have rows of padding behind them, which spell
            nothing. None: all.
        fixed_share: of a model with several experts; see `Reader`, also for ``top_experts``.
        top_experts: with it all texts join before the first step.

    Raises:
        LifelongError: a setting is out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: int,
        length: int,
        *,
        vocab_size: int | None = None,
        fixed_share: float = 0.0,
        top_experts: int | None = None,
    ) -> None:
        self._model, self._rows, self._length, self._vocab = model, rows, length, vocab_size
        self._reader = Reader(model, rows, length, fixed_share=fixed_share, top_experts=top_experts)
        self._texts: list[_Text] = []  # in the order of the reader's rows
        self._waiting: list[_Text] = []
        self._handles = count()
        exact = rows > 1 and model.device.type == "cpu" and model.output_weight.dtype == torch.float32
        self._error = _ROUNDING if exact else 0.0
        self._reads = not isinstance(model, EncoderDecoderModel)  # whether a text goes on from its prompt
        self.read_again = 0

    def __enter__(self) -> Self:
        self._training = self._model.training
        self._model.eval()
        with torch.inference_mode():
            self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)
        self._model.train(self._training)

    @property
    def free(self) -> int:
        """How many more texts can join."""
        return self._rows - len(self._texts) - len(self._waiting)

    def join(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        seed: int | None = None,
        sample: int = 0,
        stop_ids: Collection[int] = (),
        logprobs: int | None = None,
    ) -> int:
        """Begin a text after the tokens ``ids``; returns a handle. It is read at the next `step`.

        Args:
            ids: the prompt, at least one token.
            sampling: how tokens are chosen.
            max_tokens: tokens to write at most.
            seed: of the draws; None: others each time.
            sample: tells texts of one seed apart.
            stop_ids: tokens that end it.
            logprobs: how many of the likeliest tokens to name at every step beside the token's own log-probability;
                None: neither.

        Raises:
            LifelongError: prompt and text are longer than ``length``, or there is nothing to read or write.
        """
        if self.free < 1:
            raise ValueError("no row is free")
        if not ids or max_tokens < 1:
            raise LifelongError("a text needs a prompt of at least one token, and at least one token to write")
        if len(ids) + max_tokens > self._length and self._reads:
            raise LifelongError(
                f"a prompt of {len(ids)} tokens and a text of {max_tokens} are longer than {self._length} tokens",
                fix="Shorten the prompt, or ask for fewer tokens.",
            )
        text = _Text(
            next(self._handles), list(ids), sampling, key_of(seed, sample), max_tokens, frozenset(stop_ids), logprobs
        )
        self._waiting.append(text)
        return text.handle

    @torch.inference_mode()
    def step(self) -> list[Step]:
        """Write one more token of every text; those that end leave.

        Raises:
            LifelongError: the model's scores are not numbers.
        """
        parts = [self._reader.go_on([text.written[-1] for text in self._texts])] if self._texts else []
        if self._waiting:
            parts.append(self._reader.begin([text.prompt for text in self._waiting]))
            self._texts += self._waiting
            self._waiting = []
        if not parts:
            return []
        scores = self._usable(torch.cat(parts) if len(parts) > 1 else parts[0])
        facts = [self._logprobs(row, text.logprobs) for row, text in zip(scores, self._texts, strict=True)]
        steps, ended = [], []
        for row, token in enumerate(self._choose(scores)):
            text = self._texts[row]
            text.left -= 1
            finish: Finish | None = "stop" if token in text.ends else "length" if text.left == 0 else None
            text.written.append(token)
            logs, top = facts[row]
            logprob = None if logs is None else float(logs[token])
            experts: dict[str, float] = {}
            if finish is not None:
                ended.append(row)
                experts = self._reader.weights(row)
            steps.append(Step(text.handle, token, finish, logprob, top, experts))
        for row in reversed(ended):  # from the last on: a row's number is taken by the last
            self._drop(row)
        return steps

    @torch.inference_mode()
    def leave(self, handle: int) -> dict[str, float]:
        """Give a text up, and free its row; returns its experts' weights, see `Step`."""
        for row, text in enumerate(self._texts):
            if text.handle == handle:
                found = self._reader.weights(row)
                self._drop(row)
                return found
        self._waiting = [text for text in self._waiting if text.handle != handle]
        return {}

    def _drop(self, row: int) -> None:
        self._reader.leave(row)
        last = self._texts.pop()
        if row < len(self._texts):
            self._texts[row] = last

    def _usable(self, scores: Tensor) -> Tensor:
        return (scores if self._vocab is None else scores[:, : self._vocab]).float()

    def _choose(self, scores: Tensor) -> list[int]:
        """Return each row's next token."""
        groups: dict[Sampling, list[int]] = {}
        for row, text in enumerate(self._texts):
            groups.setdefault(text.sampling, []).append(row)
            self._penalise(scores[row], text)
        tokens = [0] * len(self._texts)
        for sampling, rows in groups.items():
            own = scores if len(groups) == 1 else scores[rows]
            texts = [self._texts[row] for row in rows]
            found, close = choose(
                own, sampling, [text.key for text in texts], [len(text.written) for text in texts], error=self._error
            )
            for row, token, unsure in zip(rows, found, close, strict=True):
                tokens[row] = self._choose_alone(self._texts[row]) if unsure else token
        return tokens

    def _choose_alone(self, text: _Text) -> int:
        """Return a text's next token as it is when nothing is written beside it."""
        self.read_again += 1
        scores = self._usable(self._reader.read_alone(text.prompt, text.written))
        self._penalise(scores[0], text)
        return choose(scores, text.sampling, [text.key], [len(text.written)])[0][0]

    def _penalise(self, scores: Tensor, text: _Text) -> None:
        penalty = text.sampling.repetition_penalty
        seen = [*(text.prompt if self._reads else ()), *text.written]
        if penalty != 1 and seen:
            penalise(scores, [token for token in seen if token < len(scores)], penalty)

    @staticmethod
    def _logprobs(scores: Tensor, count: int | None) -> tuple[Tensor | None, tuple[tuple[int, float], ...]]:
        if count is None:
            return None, ()
        logs = scores.log_softmax(-1)
        best = logs.topk(min(count, len(logs)))
        return logs, tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
