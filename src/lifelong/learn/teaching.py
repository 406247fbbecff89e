"""The training of a lesson: its rows, its optimizer, its pull, and the weights it ends with."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lifelong import progress
from lifelong.evaluate.bits import Score, score_of
from lifelong.learn.distil import Distillation
from lifelong.learn.fisher import Estimator
from lifelong.learn.held import Held, read_taught
from lifelong.learn.lesson import Lesson
from lifelong.learn.method import adapters_of
from lifelong.model.experts import BASE
from lifelong.settings.session import SessionSettings
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.text.document import Document
from lifelong.tokens.building import build_caches
from lifelong.tokens.loader import Loader
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
from lifelong.tokens.shards import TokenCache
from lifelong.train.drive import Drive
from lifelong.train.interrupts import graceful_interrupts
from lifelong.train.loop import Plan
from lifelong.train.objectives import Objective, labelled_tokens
from lifelong.train.optim import build_optimizers, schedule
from lifelong.train.planning import compile_blocks, measure_step, steps_in

_LOOKS = 5  # measures on the way, where a lesson is not counted in epochs


def estimator(lesson: Lesson) -> Estimator:
    """Return what tells which weights the model needs for what it knows, as they are now."""
    place = lesson.run.path / "cache"
    return Estimator(lesson.model, lesson.tokenizer, lesson.settings, place, lesson.sequence_length)


def plan_lesson(lesson: Lesson, share: float) -> tuple[Loader, Plan]:
    """Return the rows and the plan of a lesson, in which ``share`` of the rows is replay; says how long it will take.

    Raises:
        LifelongError: there is less text than one batch.
    """
    settings = lesson.settings
    caches = _caches(lesson)
    tokens = sum(cache.tokens for _, cache in caches)
    chats = any(cache.has_mask for _, cache in caches)
    # One sentence is a lesson, too.
    length = lesson.sequence_length if chats else max(1, min(lesson.sequence_length, tokens - 1))
    if length < lesson.sequence_length:
        progress.note(f"note: the text has {tokens} tokens: rows are of {length}, not of {lesson.sequence_length}")
    fresh: list[tuple[RowSource, float]] = []
    for weight, cache in caches:
        source: RowSource = (ChatSource if cache.has_mask else WindowSource)(cache, length)
        source.importance = weight
        fresh.append((source, cache.tokens / tokens))
    replayed: list[tuple[RowSource, float]] = []
    if share and lesson.memory.counts():
        place = lesson.run.path / "cache" / "replay"
        replayed = replay_sources(lesson.memory, lesson.tokenizer, place, length, share)
    elif share:
        progress.note("note: the replay memory is empty, so nothing is replayed")
    new = 1.0 - sum(part for _, part in replayed)
    sources = [*((source, new * part) for source, part in fresh), *replayed]
    batch = min(settings.batch_size, sum(len(source) for source, _ in sources))
    if batch < settings.batch_size:
        there = progress.spell_count(batch, "row")
        progress.note(f"note: there is text for {there}: batches are of {batch}, not of {settings.batch_size}")
    loader = Loader(sources, batch_size=batch, seed=settings.seed)
    adapter = lesson.mode == "adapter"
    optimizer = OptimizerSettings(
        name="adamw" if adapter else "muon", learning_rate=lesson.rate, weight_decay=0.0 if adapter else 0.1
    )

    objective = _objective(lesson, len(fresh), len(replayed))

    def make(total: int = 0) -> Plan:
        return Plan(
            total_steps=total,
            optimizers=build_optimizers(lesson.model, optimizer, bf16=lesson.bf16, adapters=adapter),
            rate=schedule(ScheduleSettings(kind="linear"), total, lesson.rate),
            accumulate=settings.gradient_accumulation_steps,
            bf16=lesson.bf16,
            objective=objective,
        )

    seconds = measure_step(lesson.model, loader, make)
    rows = batch * settings.gradient_accumulation_steps
    epoch_rows = sum(len(source) for source, _ in fresh) / new
    steps = steps_wanted(settings, seconds, epoch_rows / rows)
    compiled = compile_blocks(lesson.model, settings.compile, steps * seconds)
    replay = f", {1 - new:.0%} of it replay" if replayed else ", no replay"
    if settings.teacher_share:
        taught = f", {settings.teacher_share:.0%} of whose loss is the model before the lesson as a teacher"
        replay += taught if replayed else ", so no teacher either"
    # Beside an adapter a step spares the gradients of the weights, a third of the work; the estimate needs them.
    each = seconds / (rows * length) * (1.5 if adapter else 1.0)
    beside, joining = adapters_of(lesson.store.state()), [] if adapter else [settings.domain]
    ewc = estimator(lesson).forecast(lesson.root, lesson.memory, beside, joining, each)
    weights = f"Adapter {lesson.moving.name}" if adapter else "All weights"
    progress.note(
        f"{weights}: {progress.spell_count(steps, 'step')} of {rows} x {length} tokens{replay}, "
        f"{steps * rows / epoch_rows:.2f} epochs at rate {lesson.rate:g}, "
        f"about {progress.spell_seconds(steps * seconds)} of training{ewc}; compile {compiled}"
    )
    lesson.run.record(
        status="running",
        mode=lesson.mode,
        steps=steps,
        measure_every=_every(settings.epochs, steps, epoch_rows / rows),
        step_seconds_estimate=seconds,
        tokens_per_step=rows * length,
        replay_share=1.0 - new,
        compile=compiled,
        precision="bf16" if lesson.bf16 else "fp32",
        bytes_per_token=sum(cache.bytes_per_trained_token * cache.tokens for _, cache in caches) / tokens,
        learning_rate=lesson.rate,
    )
    return loader, make(steps)


def _objective(lesson: Lesson, fresh: int, replayed: int) -> Objective:
    """Return what is learned from: text alone, or on replayed rows also the model as it is before the lesson.

    Args:
        lesson: not begun yet.
        fresh: sources of new text, the first of the loader.
        replayed: sources of replayed text, the others.
    """
    share = lesson.settings.teacher_share
    if not (share and replayed):
        return labelled_tokens
    teacher = copy.deepcopy(lesson.model).requires_grad_(False).eval()
    return Distillation(teacher, [*[(BASE, 0.0)] * fresh, *[(BASE, share)] * replayed])


def steps_wanted(settings: SessionSettings, step_seconds: float, steps_per_epoch: float) -> int:
    """Return the steps that the settings ask for, in steps, minutes or epochs."""
    if settings.steps is not None:
        return settings.steps
    if settings.minutes is not None:
        return steps_in(settings.minutes, step_seconds)
    assert settings.epochs is not None  # settings fill it in
    return max(1, math.ceil(settings.epochs * steps_per_epoch))


def _caches(lesson: Lesson) -> list[tuple[float, TokenCache]]:
    """Cache the new text by the weight that its documents have; return these with their caches."""
    groups: dict[float, list[Document]] = {}
    for document in lesson.corpus.train:
        groups.setdefault(document.weight, []).append(document)
    place, length = lesson.run.path / "cache", lesson.sequence_length
    return [
        (weight, cache)
        for weight, documents in sorted(groups.items())
        for cache in build_caches(documents, lesson.tokenizer, place / f"train@{weight:g}", length)
    ]


def _every(epochs: float | None, steps: int, steps_per_epoch: float) -> int:
    """Return the steps between two looks at the new domain's gate: an epoch, or a part of the lesson."""
    every = steps_per_epoch if epochs is not None and epochs > 1 else steps / _LOOKS
    return max(1, round(every))


def teach_steps(lesson: Lesson, loader: Loader, plan: Plan, held: Held | None) -> float:
    """Train, and end with the weights that were best on the new domain's gate; returns the seconds it took."""
    best = _Best(lesson, held) if held is not None else None
    drive = Drive(
        run=lesson.run,
        label=f"Lesson: {lesson.settings.domain}",
        bytes_per_token=lesson.run.facts["bytes_per_token"],
        measure=best.measure if best is not None else None,
        measure_every=lesson.run.facts["measure_every"],
    )
    with graceful_interrupts() as stop:
        seconds = drive.steps(lesson.model, loader, plan, stop)
    if best is not None:
        best.restore()
    lesson.model.eval()
    return seconds


@dataclass
class _Best:
    """The best weights so far, by the new domain's gate slice as the weights in training read it, alone."""

    lesson: Lesson
    held: Held
    _nats: float = float("inf")
    _weights: dict[str, Tensor] = field(default_factory=dict)
    _is_last: bool = False

    def measure(self) -> Score:
        panel = self.held.panel.copy()
        read_taught(self.lesson.model, panel, self.lesson.expert)
        score = score_of(panel.tallies([self.lesson.expert]), self.held.sizes)
        self._is_last = score.nats <= self._nats
        if self._is_last:
            self._nats = score.nats
            self._weights = {name: weight.detach().clone() for name, weight in self._moving()}
        return score

    def restore(self) -> None:
        if self._weights and not self._is_last:
            progress.note("The lesson was best before its end: it is judged by the weights of then.")
            with torch.no_grad():
                for name, weight in self._moving():
                    weight.copy_(self._weights[name])

    def _moving(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, weight) for name, weight in self.lesson.model.named_parameters() if weight.requires_grad)
