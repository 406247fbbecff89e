"""What is decided once, before the first step: how long a step takes here, how many there will be, how it computes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch

from lifelong.device import has_compiler
from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.model.transformer import Transformer
from lifelong.progress import spell_seconds, task
from lifelong.settings.train import ScheduleSettings, TrainSettings
from lifelong.tokens.loader import Loader
from lifelong.train.loop import Plan, train_steps
from lifelong.train.optim import warmup_steps

# Compiling the blocks costs 10 to 30 s on two cores and gains 5 to 10% (benchmarks/training_speed.py).
COMPILE_PAYS_SECONDS = 600.0
_PROBE_STEPS, _PROBE_SECONDS = 6, 4.0
# Measures of a run, the share of its time that they take, and the seconds that a short run may spend all the same, as
# long as they are a tenth of it.
_MEASURES, _MEASURING, _SHORT_SECONDS, _SHORT_MEASURING = 10, 0.02, 5.0, 0.1
_MOVED = 1e-4  # share of its size that a weight can move by in a run that teaches something


def measure_step(model: LanguageModel, loader: Loader, make_plan: Callable[[], Plan]) -> float:
    """Return the seconds of one optimizer step here, from a few steps at rate 0.

    They change neither weights nor random state. The first, which allocates, does not count; of the others the
    median does.
    """
    return statistics.median(_idle_steps(model, loader, make_plan(), _PROBE_STEPS + 1)[1:])


def settle(model: LanguageModel, loader: Loader, make_plan: Callable[[], Plan]) -> None:
    """Take a step at rate 0 with processes that go on with a run.

    In its first step DDP learns the order in which gradients come, and adds them up in another order from then on: a
    run that goes on must add them up as the run before, which had left its first step behind, too.
    """
    _idle_steps(model, loader, make_plan(), 1)


def _idle_steps(model: LanguageModel, loader: Loader, plan: Plan, count: int) -> list[float]:
    """Take up to ``count`` steps at rate 0, as many as a few seconds allow; returns the seconds of each."""
    random = torch.get_rng_state()
    plan.total_steps, plan.rate, plan.pull = count, lambda step: 0.0, None
    seconds: list[float] = []
    with task("Timing a step", total=count) as shown:
        for step in train_steps(model, loader, plan):
            seconds.append(step.seconds)
            shown(len(seconds))
            if len(seconds) > 2 and sum(seconds) > _PROBE_SECONDS:
                break
    torch.set_rng_state(random)
    return seconds


def steps_in(minutes: float, step_seconds: float, overhead_seconds: float = 0.0) -> int:
    """Return how many steps fit into ``minutes``, after evaluations and the like."""
    return max(1, math.floor((minutes * 60 - overhead_seconds) / step_seconds))


def measures_in(run_seconds: float, measure_seconds: float) -> int:
    """Return how often held-out text is measured during a run: ten times at most, and in 2% of its time at most.

    A short run may spend five seconds, or a tenth of its time if that is less. The measure at the end comes on top.
    """
    spent = max(_MEASURING * run_seconds, min(_SHORT_SECONDS, _SHORT_MEASURING * run_seconds))
    return min(_MEASURES, int(spent / measure_seconds)) if measure_seconds else _MEASURES


def measure_every(settings: TrainSettings, steps: int, measures: int) -> int:
    """Return the steps between two measures; 0 for none on the way but those at the ends of epochs.

    Where a run counted in epochs may stop early, it is measured after every epoch, so that patience counts epochs.
    """
    if settings.evaluation.every_steps is not None:
        return settings.evaluation.every_steps
    if settings.early_stopping.on:
        return 0 if settings.epochs is not None else max(1, steps // (measures or 10))
    return max(1, steps // measures) if measures else 0


def check_around(settings: TrainSettings, *, has_gate: bool) -> None:
    """Check that what is to happen around the steps can happen.

    Raises:
        LifelongError: held-out loss is to be watched, and there is no held-out text; or samples are wanted of a model
            that writes none.
    """
    watched = settings.early_stopping
    if watched.on and watched.metric == "val_loss" and not has_gate:
        raise LifelongError(
            "early stopping watches the loss on held-out text, and there is none",
            where="early_stopping.metric",
            fix="Use --early-stopping.metric train_loss, or give more text.",
        )
    if settings.evaluation.generation.on and settings.phase == "mlm":
        raise LifelongError(
            "a masked model fills gaps and writes no samples",
            where="evaluation.generation",
            fix="Leave the prompts out, or set enabled: false.",
        )


def steps_of(epochs: float, rows_per_epoch: float, rows_per_step: int) -> int:
    """Return the optimizer steps of ``epochs`` passes, a started step counting whole."""
    return max(1, math.ceil(epochs * rows_per_epoch / rows_per_step))


def schedule_notes(settings: ScheduleSettings, total_steps: int, peak: float) -> list[str]:
    """Return what of a schedule does not fit the run, and what is done instead."""
    notes = []
    warmup = warmup_steps(settings, total_steps)
    if settings.warmup_steps is not None and warmup < settings.warmup_steps:
        notes.append(
            f"the warm-up of {settings.warmup_steps:,} steps is capped at {warmup:,}, half of this run of "
            f"{total_steps:,} steps"
        )
    if settings.min_lr and settings.kind == "constant":
        notes.append("min_lr has no effect: a constant learning rate does not fall")
    elif settings.min_lr is not None and settings.min_lr > peak:
        notes.append(f"min_lr {settings.min_lr:g} is above the peak learning rate: the rate stays at {peak:g}")
    return notes


def rate_notes(model: LanguageModel, peak: float, steps: int) -> list[str]:
    """Return a word on a learning rate at which a run cannot teach anything, or nothing.

    No step of AdamW or Muon moves weights by much more than the rate.
    """
    size = float(model.output_weight.detach().float().square().mean().sqrt())
    if steps * peak > _MOVED * size:
        return []
    return [
        f"a learning rate of {peak:g} teaches next to nothing: in {steps:,} steps no weight moves by more than "
        f"about {steps * peak:.1g}, and weights are about {size:.2g}"
    ]


def compile_blocks(model: LanguageModel, choice: str, run_seconds: float) -> str:
    """Compile each block where it pays, and return the reason for the decision.

    Blocks are compiled one by one: they are alike, so the code of the first serves all.
    """
    device = model.device
    if choice == "off":
        return "off (as set)"
    if device.type == "cpu" and not has_compiler():
        return "off (no C++ compiler on the path)"
    if choice == "auto" and (device.type == "mps" or run_seconds < COMPILE_PAYS_SECONDS):
        return f"off (a run of {spell_seconds(run_seconds)} is too short to pay for it)"
    if not isinstance(model, Transformer):
        return "off (transformers computes this model)"
    for block in model.model.layers:
        block.compile(dynamic=False)
    return "on (as set)" if choice == "on" else f"on (it pays in a run of {spell_seconds(run_seconds)})"
