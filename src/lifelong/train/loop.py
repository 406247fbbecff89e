"""The training loop. One loop for pretraining, chat tuning and lessons: they differ in data, weights and pull."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.tokens.loader import Batch
from lifelong.train.objectives import Objective, labelled_tokens, trained_tokens
from lifelong.train.optim import set_rates

_BAD_STEPS = 3


class Batches(Protocol):
    """Where the loop gets its batches: a `Loader`, or anything else that knows the batch of a step."""

    def batch(self, step: int) -> Batch:
        """Return the micro-batch with a number, counted from 0 over all accumulated ones."""
        ...


@dataclass(frozen=True)
class Step:
    """What one optimizer step did. ``loss`` is in nats per token, ``seconds`` is the step's own time."""

    step: int
    loss: float
    tokens: int
    learning_rate: float
    grad_norm: float
    seconds: float
    pull: float = 0.0
    skipped: bool = False


@dataclass
class Plan:
    """Everything the loop needs besides model and data; decided once, before the first step."""

    total_steps: int
    optimizers: list[torch.optim.Optimizer]
    rate: Callable[[int], float]
    accumulate: int = 1
    grad_clip: float = 1.0
    bf16: bool = False
    objective: Objective = labelled_tokens
    pull: Callable[[], Tensor] | None = None
    trainable: list[Tensor] = field(default_factory=list)


def precision(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which matrix products run in bf16; master weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def train_steps(model: LanguageModel, loader: Batches, plan: Plan, *, start: int = 0) -> Iterator[Step]:
    """Train from step ``start`` to ``plan.total_steps``, yielding after every optimizer step.

    The caller evaluates, saves and stops between steps; the state at a yield is complete. A step reads the batches
    ``step * accumulate`` and following, so that a resumed run sees what an uninterrupted one would.

    Raises:
        LifelongError: the loss or the gradient was not a finite number three steps in a row. Such a step never
            reaches the weights.
    """
    device = model.device
    weights = plan.trainable or [p for p in model.parameters() if p.requires_grad]
    bad = 0
    model.train()
    for step in range(start, plan.total_steps):
        began = time.perf_counter()
        rate = plan.rate(step)
        for optimizer in plan.optimizers:
            set_rates(optimizer, rate, step)
        batches = [loader.batch(step * plan.accumulate + i) for i in range(plan.accumulate)]
        tokens = sum(trained_tokens(batch) for batch in batches)
        if tokens == 0:
            raise LifelongError(
                f"step {step}: no token of the batch is trained on",
                fix="Every conversation was cut before its answer: use a longer --sequence-length.",
            )
        # The loss is normalised by the tokens of the whole accumulated batch: the gradient is that of one big batch.
        total = 0.0
        for batch in batches:
            with precision(device, plan.bf16):
                loss = plan.objective(model, batch.to(device)) / tokens
            loss.backward()
            total += loss.item()
        pull = 0.0
        if plan.pull is not None:
            term = plan.pull()
            term.backward()
            pull = term.item()
        norm = float(torch.nn.utils.clip_grad_norm_(weights, plan.grad_clip))
        healthy = math.isfinite(total + pull) and math.isfinite(norm)
        if healthy:
            for optimizer in plan.optimizers:
                optimizer.step()
        for weight in weights:
            weight.grad = None
        bad = 0 if healthy else bad + 1
        yield Step(step + 1, total, tokens, rate, norm, time.perf_counter() - began, pull, skipped=not healthy)
        if bad == _BAD_STEPS:
            raise LifelongError(
                f"the loss was not a number for {bad} steps in a row, up to step {step + 1}",
                fix="Nothing of it reached the weights. Use a lower --learning-rate.",
            )
