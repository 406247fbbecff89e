"""What a run decides, once, about its length and how it computes; `planning` holds the single questions."""

from __future__ import annotations

from typing import Any

import torch

from lifelong import progress
from lifelong.train.job import Job
from lifelong.train.optim import learning_rate
from lifelong.train.planning import (
    check_around,
    compile_blocks,
    measure_every,
    measure_step,
    measures_in,
    schedule_notes,
    steps_in,
    steps_of,
)


def decide(job: Job, data: list[str]) -> tuple[int, dict[str, Any]]:
    """Decide, once, how long the run is and how it computes; say it and return the facts to record."""
    settings, loader = job.settings, job.loader
    rows = settings.batch_size * settings.gradient_accumulation_steps
    seconds = measure_step(job.model, loader, job.plan)
    # Measuring the gate costs about a third of training on as much text.
    measured = min(settings.evaluation.max_bytes, sum(document.bytes for document in job.corpus.gate))
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
    compiled = compile_blocks(job.model, settings.compile, steps * seconds)
    epochs = steps * rows / job.epoch_rows
    mixture = job.mix(steps)
    for line in [*mixture.lines(), *(f"note: {warning}" for warning in mixture.warnings)] if mixture else []:
        progress.note(line)
    for line in schedule_notes(settings.schedule, steps, learning_rate(settings.optimizer)):
        progress.note(f"note: {line}")
    config = job.model.config
    progress.note(
        f"{config.parameters:,} parameters, {steps} steps of {rows} x {loader.sequence_length} tokens "
        f"({epochs:.2f} epochs), about {steps * seconds / 60:.1f} minutes; "
        f"{'bf16' if job.bf16 else 'fp32'}, compile {compiled}"
    )
    facts = {
        "status": "running",
        "data": data,
        "steps": steps,
        "epochs": epochs,
        "device": str(job.model.device),
        "precision": "bf16" if job.bf16 else "fp32",
        "compile": compiled,
        "threads": torch.get_num_threads(),
        "step_seconds_estimate": seconds,
        "measure_every": measure_every(settings, steps, measures),
        "parameters": config.parameters,
        "learning_rate": learning_rate(settings.optimizer),
        "bytes_per_token": job.bytes_per_token,
        "mixture": mixture.to_dict() if mixture else None,
    }
    return steps, facts
