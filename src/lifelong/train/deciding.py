"""What a run decides, once, about its length and how it computes; `planning` holds the single questions."""

from __future__ import annotations

from typing import Any

import torch

from lifelong import progress
from lifelong.settings.profiles import EFFICIENCY
from lifelong.train.job import Job
from lifelong.train.meter import ceiling
from lifelong.train.optim import learning_rate
from lifelong.train.planning import (
    check_around,
    measure_every,
    measure_step,
    measures_in,
    rate_notes,
    schedule_notes,
    steps_in,
    steps_of,
)

_LONG_STEP_SECONDS = 20.0  # a step that takes longer is estimated: measuring a few would take minutes


def _step_seconds(job: Job, tokens: int, reach: float) -> float:
    """Return the seconds of a step of ``tokens``: measured, or where that takes too long estimated as for a profile.

    Measured it is also where the length of the run rests on it, and where processes have to agree on it.
    """
    estimate = tokens * job.model.config.flops_per_token(job.loader.sequence_length) / (EFFICIENCY * reach)
    if estimate > _LONG_STEP_SECONDS and job.settings.minutes is None and job.world.size == 1:
        progress.note(
            f"A step takes about {progress.spell_seconds(estimate)} here: estimated, as measuring would take minutes."
        )
        return estimate
    return measure_step(job.model, job.loader, job.plan)


def decide(job: Job, data: list[str]) -> tuple[int, dict[str, Any]]:
    """Decide, once, how long the run is and how it computes; say it and return the facts to record."""
    settings, loader = job.settings, job.loader
    rows = settings.batch_size * settings.gradient_accumulation_steps
    reach = ceiling(job)
    seconds = _step_seconds(job, rows * loader.sequence_length, reach)
    # Measuring the gate costs about a third of training on as much text.
    measured = min(settings.evaluation.gate_bytes, sum(document.bytes for document in job.corpus.gate))
    per_measure = seconds / 3 * measured / job.bytes_per_token / (rows * loader.sequence_length)
    if settings.steps is not None:
        steps = settings.steps
    elif settings.minutes is not None:
        measures = measures_in(settings.minutes * 60, per_measure)
        steps = steps_in(settings.minutes, seconds, per_measure * (measures + 1))
    else:
        assert settings.epochs is not None  # settings fill it in
        steps = steps_of(settings.epochs, job.epoch_rows, rows)
    measures = measures_in(steps * seconds, per_measure)
    check_around(settings, has_gate=bool(len(job.corpus.gate)))
    compiled = job.world.compile(job.model, settings.compile, steps * seconds)
    epochs = steps * rows / job.epoch_rows
    mixture = job.mix(steps)
    for line in [*mixture.lines(), *(f"note: {warning}" for warning in mixture.warnings)] if mixture else []:
        progress.note(line)
    peak = learning_rate(settings.optimizer)
    for line in [*schedule_notes(settings.schedule, steps, peak), *rate_notes(job.model, peak, steps)]:
        progress.note(f"note: {line}")
    if job.precision == "fp16" and job.model.device.type == "cpu":
        progress.note("note: fp16 is for GPUs that lack bf16; a CPU emulates it, slower than fp32")
    config = job.model.config
    progress.note(
        f"{config.parameters:,} parameters, {progress.spell_count(steps, 'step')} of {rows} x "
        f"{loader.sequence_length} tokens ({epochs:.2f} epochs), about {progress.spell_seconds(steps * seconds)}; "
        f"{job.precision}, compile {compiled}"
    )
    if job.world.size > 1:
        share = {"ddp": "each with the whole model", "fsdp": "with the model in shards"}
        progress.note(
            f"{job.world.size} processes, {share[settings.distributed.strategy]} and {torch.get_num_threads()} "
            f"thread(s) each; together they take the {rows} rows of a step"
        )
    facts = {
        "status": "running",
        "data": data,
        "steps": steps,
        "epochs": epochs,
        "device": str(job.model.device),
        "precision": job.precision,
        "compile": compiled,
        "threads": torch.get_num_threads(),
        "processes": job.world.size,
        "step_seconds_estimate": seconds,
        "measure_every": measure_every(settings, steps, measures),
        "parameters": config.parameters,
        "matmul_flops": reach,
        "learning_rate": learning_rate(settings.optimizer),
        "bytes_per_token": job.bytes_per_token,
        "mixture": mixture.to_dict() if mixture else None,
    }
    return steps, facts
