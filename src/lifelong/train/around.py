"""What happens around the steps of a run: epochs, measures, models kept, samples, logs; `Drive` calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.bits import Score
from lifelong.train.board import Board, open_boards
from lifelong.train.founding import Beside, write_whole_model
from lifelong.train.job import Job
from lifelong.train.keeper import Keeper
from lifelong.train.meter import Meter
from lifelong.train.objectives import Objective
from lifelong.train.planning import steps_of
from lifelong.train.samples import Sampler
from lifelong.train.suspects import find_suspects
from lifelong.train.watch import Watch


@dataclass
class Around:
    """The parts of one run that live between its steps."""

    rows_per_step: int
    rows_per_epoch: float
    keeper: Keeper
    watch: Watch
    # Step → number of the epoch that it ends, where a run is counted in epochs.
    epoch_ends: dict[int, int] = field(default_factory=dict)
    measure_epochs: bool = False
    sampler: Sampler | None = None
    boards: list[Board] = field(default_factory=list)
    meter: Meter | None = None
    # Returns the rows of a step with the highest loss, and the text that they are made of.
    suspects: Callable[[int, Objective], list[dict[str, Any]]] = lambda step, objective: []

    def epochs_at(self, step: int) -> float:
        """Return how many passes over the text a step ends."""
        return step * self.rows_per_step / self.rows_per_epoch

    def epochs_completed(self, step: int) -> int:
        """Return the whole passes over the text after a step. The step in which one ends counts for it."""
        counted = [number for end, number in self.epoch_ends.items() if end <= step]
        return max([int(self.epochs_at(step) + 1e-9), *counted])

    def measured_at(self, step: int) -> bool:
        """Whether this step is measured for ending an epoch."""
        return self.measure_epochs and step in self.epoch_ends

    def after_step(self, row: dict[str, Any]) -> None:
        """Take a step, before anything is measured: the models of epochs are saved first."""
        row["epoch"] = round(self.epochs_at(row["step"]), 4)
        if self.meter is not None:
            row.update(self.meter.read(row["tokens_per_second"]))
        if "skipped" not in row:
            self.watch.step(row["loss"], row["tokens"])
        if (number := self.epoch_ends.get(row["step"])) is not None:
            self.keeper.epoch(number, row["step"])

    def after_measure(self, row: dict[str, Any], held_out: Score | None) -> None:
        """Take a measure (None: there is no held-out text): keep the best weights, write samples and a line."""
        if held_out is not None:
            row["gate_perplexity"], row["gate_token_accuracy"] = held_out.perplexity, held_out.token_accuracy
        step = row["step"]
        if self.watch.measured(step, None if held_out is None else held_out.loss):
            self.keeper.best(step)
            row["best"] = True
        if self.sampler is not None:
            for prompt, number, text in self.sampler.write(step):
                for board in self.boards:
                    board.sample(step, prompt, text, number)
        progress.record(_line(row))

    def logged(self, row: dict[str, Any]) -> None:
        """Take a row that is in the metrics now."""
        for board in self.boards:
            board.row(row)


def _line(row: dict[str, Any]) -> str:
    parts = [f"step {row['step']}", f"epoch {row['epoch']:.2f}", f"loss {row['loss']:.4f}", f"lr {row['lr']:.3e}"]
    if "gate_loss" in row:
        parts += [
            f"held-out loss {row['gate_loss']:.4f}",
            f"perplexity {row['gate_perplexity']:.2f}",
            f"{row['gate_bits_per_byte']:.4f} bpb",
            f"token accuracy {row['gate_token_accuracy']:.1%}",
        ]
    return "  ".join([*parts, f"gradient norm {row['grad_norm']:.3f}"] + (["best so far"] if row.get("best") else []))


@contextmanager
def around(job: Job, write_model: Callable[[Path], None], steps: int, *, start: int) -> Iterator[Around]:
    """Yield what goes around the steps of a job, from step ``start`` on; its files are closed at the end."""
    settings = job.settings
    rows = settings.batch_size * settings.gradient_accumulation_steps
    ends: dict[int, int] = {}
    if settings.epochs is not None:
        for number in range(1, math.floor(settings.epochs + 1e-9) + 1):
            ends[min(steps, steps_of(number, job.epoch_rows, rows))] = number
    beside = Beside(job.run.path / "cache" / "beside", job.corpus, job.origin, job.domain)
    title = f"{job.out.name}, {job.run.path.name}"
    keeper = Keeper(
        job.run.path,
        lambda place: write_whole_model(place, beside, job.model, write_model, title),
        settings.checkpoint.keep_epochs,
    )
    sampler, samples = None, settings.evaluation.generation
    if samples.on:
        sampler = Sampler(job.run.samples_file, job.model, job.tokenizer, samples, seed=settings.seed)
    boards = open_boards(job.run.path, title, settings.tracking, start, settings.model_dump(mode="json"))
    try:
        yield Around(
            rows_per_step=rows,
            rows_per_epoch=job.epoch_rows,
            keeper=keeper,
            watch=Watch(settings.early_stopping),
            epoch_ends=ends,
            measure_epochs=settings.early_stopping.on and settings.evaluation.every_steps is None,
            sampler=sampler,
            boards=boards,
            meter=Meter.of(job),
            suspects=lambda step, objective: find_suspects(job, step, objective),
        )
    finally:
        for board in boards:
            board.close()
