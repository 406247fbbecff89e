"""Driving the loop: progress, measures, checkpoints and interruptions around `train_steps`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import Interrupted, LifelongError
from lifelong.evaluate.bits import Score
from lifelong.model.base import LanguageModel
from lifelong.train.around import Around
from lifelong.train.checkpoint import last_good, prune, save_checkpoint
from lifelong.train.folder import RunFolder
from lifelong.train.interrupts import StopFlag
from lifelong.train.loop import Batches, Plan, Step, train_steps
from lifelong.train.suspects import spell_suspect

_SMOOTHING = 0.9


@dataclass
class Drive:
    """What happens around the steps of one run."""

    run: RunFolder
    label: str
    bytes_per_token: float
    measure: Callable[[], Score] | None = None
    measure_every: int = 0
    write_model: Callable[[Path], None] | None = None
    # Puts weights and optimizer state of a checkpoint back; the random state stays as it is.
    go_back: Callable[[Path], None] | None = None
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int | None = None
    keep: int = 2
    # Steps in which the learning rate rises; just after them a rate that is too high shows.
    warmup: int = 0
    around: Around | None = None
    # The last measurement, the step at which the run ended, and the step whose weights the model has then.
    final: Score | None = None
    ended_at: int = 0
    ends_with: int = 0

    def steps(self, model: LanguageModel, loader: Batches, plan: Plan, stop: StopFlag, *, start: int = 0) -> float:
        """Train to the plan's end, or until ``stop`` is set, and return the seconds it took.

        Raises:
            LifelongError: the loss stays bad, also after going back to the last good checkpoint.
            Interrupted: Ctrl-C; the state is saved first where checkpoints are written.
        """
        began = saved = time.perf_counter()
        smooth: float | None = None
        with progress.task(self.label, total=plan.total_steps) as shown:
            for step in train_steps(model, loader, plan, start=start):
                if step.skipped is None:
                    smooth = step.loss if smooth is None else _SMOOTHING * smooth + (1 - _SMOOTHING) * step.loss
                row = self._row(step, plan)
                if step.skipped is not None:
                    self._bad(model, plan, step, row)
                word = plan.health.early_word(step.step, step.loss, step.learning_rate, self.warmup)
                if word is not None:
                    progress.note(f"note: {word}")
                last = step.step == plan.total_steps
                self._between(model, plan, row, last)
                self.run.log(row)
                if self.around is not None:
                    self.around.logged(row)
                shown.update(
                    done=step.step,
                    loss=smooth,
                    bits_per_byte=None if smooth is None else smooth / math.log(2) / self.bytes_per_token,
                    tokens_per_second=row["tokens_per_second"],
                )
                self.ended_at = self.ends_with = step.step
                if self.around is not None and self.around.watch.exhausted:
                    progress.note(f"step {step.step}: no improvement any more; stopping early")
                    break
                due = time.perf_counter() - saved > 60 * self.checkpoint_minutes or (
                    self.checkpoint_steps is not None and step.step % self.checkpoint_steps == 0
                )
                if self.write_model is not None and not last and (due or stop.requested):
                    self._save(model, plan, step.step, due)
                    saved = time.perf_counter()
                if stop.requested and (not last or self.write_model is None):
                    raise self._interrupted(step.step, plan.total_steps)
        return time.perf_counter() - began

    def _row(self, step: Step, plan: Plan) -> dict[str, Any]:
        row: dict[str, Any] = {
            "phase": self.label,
            "step": step.step,
            "tokens": step.tokens,
            "loss": step.loss,
            "bits_per_byte": step.loss / math.log(2) / self.bytes_per_token,
            "lr": step.learning_rate,
            "grad_norm": step.grad_norm,
            "tokens_per_second": step.tokens / step.seconds,
            "seconds": step.seconds,
        }
        if plan.pull is not None:
            row["pull"] = step.pull
        return row

    def _bad(self, model: LanguageModel, plan: Plan, step: Step, row: dict[str, Any]) -> None:
        """Say why a step was left out and what text it was; after too many in a row, go back to good weights."""
        row["skipped"] = step.skipped
        progress.note(f"step {step.step}: {step.skipped}; the step was left out")
        if not step.bad:
            return
        if self.around is not None:
            row["samples"] = self.around.suspects(step.step, plan.objective)
            for sample in row["samples"]:
                progress.note(f"  {spell_suspect(sample)}")
        if not plan.health.exhausted or self.go_back is None:
            return
        good = last_good(self.run.checkpoints)
        if good is None or good[1] == plan.health.went_back_to:
            return  # the loop says what is wrong, and stops
        path, at = good
        bad = plan.health.bad
        self.go_back(path)
        model.train()
        plan.health.went_back(at)
        row["went_back_to"] = at
        progress.note(
            f"step {step.step}: {bad} bad steps in a row; weights and optimizer are those of step {at} again, and the "
            "run goes on with the text after the bad one"
        )

    def _between(self, model: LanguageModel, plan: Plan, row: dict[str, Any], last: bool) -> None:
        """Do what is due after a step: save first, then measure."""
        step, around = row["step"], self.around
        if around is not None:
            around.after_step(row)
        due = last or (self.measure_every and step % self.measure_every == 0)
        if not (due or (around is not None and around.measured_at(step))):
            return
        plan.world.refresh()
        if self.measure is not None:
            held_out = self.final = self.measure()
            model.train()
            row["gate_loss"], row["gate_bits_per_byte"] = held_out.loss, held_out.bits_per_byte
        if around is not None:
            around.after_measure(row, self.final)

    def _save(self, model: LanguageModel, plan: Plan, step: int, due: bool) -> None:
        facts: dict[str, Any] = {"due": due, "plan": plan.state()}
        if self.around is not None:
            facts["watch"] = self.around.watch.state()
        try:
            path = save_checkpoint(
                self.run.checkpoints, step, model, plan.optimizers, self.write_model, facts, plan.world.model
            )
        except LifelongError as error:
            if not any(self.run.checkpoints.glob("step-*")):
                raise
            fix = f"The checkpoint before is whole. Free some space, then: lifelong resume {self.run.path}"
            raise LifelongError(error.what, where=error.where, fix=fix) from error
        if self.around is not None:
            self.around.keeper.latest(path)
        prune(self.run.checkpoints, self.keep)

    def _interrupted(self, step: int, total: int) -> Interrupted:
        if self.write_model is None:
            return Interrupted(
                f"interrupted at step {step} of {total}; nothing was changed",
                fix="Run the same command to start again.",
            )
        return Interrupted(
            f"interrupted at step {step} of {total}; everything is saved",
            fix=f"Go on with: lifelong resume {self.run.path}",
        )
