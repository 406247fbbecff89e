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

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.tokens.loader import Batch
from lifelong.train.distributed import ALONE, World, whole_norm
from lifelong.train.fitting import fewer_rows, split_rows
from lifelong.train.health import Health
from lifelong.train.objectives import Objective, labelled_tokens, trained_tokens
from lifelong.train.optim import set_rates
from lifelong.train.scaler import LossScaler


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
    # Why the step did not reach the weights; None where it did.
    skipped: str | None = None
    # Left out for what its data or the rate did, not while fp16 finds its scale.
    bad: bool = False


@dataclass
class Plan:
    """Everything the loop needs besides model and data; decided once, before the first step."""

    total_steps: int
    optimizers: list[torch.optim.Optimizer]
    rate: Callable[[int], float]
    accumulate: int = 1
    grad_clip: float = 1.0
    bf16: bool = False
    # Products are in fp16 where there is a scaler.
    scaler: LossScaler | None = None
    objective: Objective = labelled_tokens
    pull: Callable[[], Tensor] | None = None
    trainable: list[Tensor] = field(default_factory=list)
    world: World = ALONE
    health: Health = field(default_factory=Health)
    # Rows that go through the model at once, where a whole micro-batch did not fit; None: all of it.
    rows: int | None = None

    def state(self) -> dict[str, Any]:
        """Return what changed on the way and belongs into a checkpoint, as plain values."""
        scale = None if self.scaler is None else self.scaler.state()
        return {"health": self.health.state(), "rows": self.rows, "scaler": scale}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.health.restore(state["health"])
        self.rows = state["rows"]
        if self.scaler is not None:
            self.scaler.restore(state["scaler"])


def precision(
    device: torch.device, bf16: bool = False, *, fp16: bool = False
) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which matrix products run in bf16 or fp16; master weights stay fp32."""
    if not (bf16 or fp16):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if bf16 else torch.float16)


def train_steps(model: LanguageModel, loader: Batches, plan: Plan, *, start: int = 0) -> Iterator[Step]:
    """Train from step ``start`` to ``plan.total_steps``, yielding after every optimizer step.

    The caller evaluates, saves and stops between steps; the state at a yield is complete. A step reads the batches
    ``step * accumulate`` and following, so that a resumed run sees what an uninterrupted one would. A bad step (its
    loss or gradient is no number, or the loss has jumped) never reaches the weights; the caller may put good weights
    back when ``plan.health`` is exhausted.

    Raises:
        LifelongError: there were too many bad steps in a row; or a single row does not fit into memory.
    """
    device = model.device
    weights = plan.trainable or [p for p in model.parameters() if p.requires_grad]
    model.train()
    for step in range(start, plan.total_steps):
        began = time.perf_counter()
        rate = plan.rate(step)
        for optimizer in plan.optimizers:
            set_rates(optimizer, rate, step)
        batches = plan.world.batches(loader, plan, step, rate)
        tokens = round(plan.world.sum(sum(trained_tokens(batch) for batch in batches)))
        if tokens == 0:
            raise LifelongError(
                f"step {step}: no token of the batch is trained on",
                fix="Every conversation was cut before its answer: use a longer --sequence-length.",
            )
        total = _backward(model, batches, tokens, plan, device, weights)
        pull = 0.0
        if plan.pull is not None:
            term = plan.pull()
            _scaled(term, plan).backward()
            pull = term.item()
        if plan.scaler is not None:
            plan.scaler.unscale(weights)
        norm = whole_norm(torch.nn.utils.clip_grad_norm_(weights, plan.grad_clip or math.inf))
        problem: str | None
        if overflowed := plan.scaler is not None and plan.scaler.overflowed(total + pull, norm):
            problem = "the gradient overflowed in fp16; the loss is scaled by half as much from here on"
        else:
            problem = plan.health.judge(total + pull, norm)
        problem = plan.world.agree(problem)
        if problem is None:
            for optimizer in plan.optimizers:
                optimizer.step()
        for weight in weights:
            weight.grad = None
        yield Step(
            step + 1,
            total,
            tokens,
            rate,
            norm,
            time.perf_counter() - began,
            pull,
            problem,
            bad=problem is not None and not overflowed,
        )
        if plan.health.exhausted:
            _stop_or_accept(plan, step + 1, rate)


def _backward(
    model: LanguageModel, batches: list[Batch], tokens: int, plan: Plan, device: torch.device, weights: list[Tensor]
) -> float:
    """Add up the gradients of a step's batches, and return their loss (nats per token).

    The loss is normalised by the tokens of the whole accumulated batch: the gradient is that of one big batch, also
    where a batch does not fit into memory and goes through the model in parts.
    """
    while True:
        losses: list[Tensor] = []
        try:
            parts = [part for batch in batches for part in split_rows(batch, plan.rows)]
            for number, part in enumerate(parts, start=1):
                with plan.world.sync(last=number == len(parts)):
                    with precision(device, plan.bf16, fp16=plan.scaler is not None):
                        loss = plan.world.loss(plan, model, part.to(device)) / tokens
                    _scaled(loss, plan).backward()
                losses.append(loss.detach())
            mine = math.fsum(torch.stack(losses).tolist())  # one wait for the device, not one a part
            return plan.world.mean(mine)
        except torch.OutOfMemoryError:
            plan.world.check_retry()
            loss = part = None  # type: ignore[assignment]  # what they hold is freed before the next try
        losses.clear()
        for weight in weights:
            weight.grad = None
        if device.type == "cuda":
            torch.cuda.empty_cache()
        plan.rows = fewer_rows(min(plan.rows or len(batches[0].input_ids), len(batches[0].input_ids)))
        progress.note(
            f"out of memory: from here on {plan.rows} rows go through the model at once; a step learns from as many "
            "as before"
        )


def _scaled(loss: Tensor, plan: Plan) -> Tensor:
    return loss if plan.scaler is None else loss * plan.scaler.scale


def _stop_or_accept(plan: Plan, step: int, rate: float) -> None:
    """Raise where nobody could put good weights back; a loss that is a number, though high, is gone on with."""
    health = plan.health
    again = f", again after going back to step {health.went_back_to}" if health.went_back_to is not None else ""
    if health.finite and not again:
        progress.note(f"step {step}: the loss stays high, and there is no checkpoint to go back to; going on")
        health.accept()
        return
    what = "was far too high" if health.finite else "was not a number"
    pull = ", a lower --ewc-lambda," if plan.pull is not None else ","
    raise LifelongError(
        f"the loss {what} for {health.bad} steps in a row, up to step {step}{again}",
        fix=f"Nothing of it reached the weights. Use a lower --learning-rate than {rate:g}{pull} or look at the text "
        "that the run's log names.",
    )
