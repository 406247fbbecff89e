"""Consolidation: what the adapters know, folded into one set of plain weights.

All weights learn from the replay memory. Nearly half of the rows are of domains that the weights know already: there
the model before is the teacher, whose probabilities of every next token are learned beside the text, and EWC, where it
is asked for, pulls the weights that they need back to where they were. The others are text of the adapters' domains,
learned as in a lesson with all weights; the adapters themselves are weaker teachers than it is (docs/log.md). Then old
and new weights are averaged as far as the gate asks for, and the outcome is kept only if no domain lost by it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.device import pick_precision
from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score
from lifelong.evaluate.growing import extend_matrix, measuring_of
from lifelong.evaluate.matrix import Measuring
from lifelong.learn.commit import commit_consolidation
from lifelong.learn.cost import Forecast, session_flops
from lifelong.learn.distil import Distillation
from lifelong.learn.dream import dream
from lifelong.learn.fisher import Estimator
from lifelong.learn.folded import Consolidation
from lifelong.learn.gate import Change, Decision, change, decide_all
from lifelong.learn.held import Holdings, hold, read_held, read_slices, scores, with_reading
from lifelong.learn.method import adapters_of, learning_rate
from lifelong.learn.opening import opened, row_length
from lifelong.learn.recovery import recorded
from lifelong.learn.teaching import steps_wanted
from lifelong.learn.weights import Moving
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, load_model, read_config
from lifelong.model.experts import BASE
from lifelong.model.store import ModelStore
from lifelong.settings.consolidate import ConsolidateSettings
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import Loader
from lifelong.tokens.replay import replay_sources
from lifelong.train.drive import Drive
from lifelong.train.folder import RunFolder
from lifelong.train.founding import MEMORY
from lifelong.train.interrupts import graceful_interrupts
from lifelong.train.loop import Plan
from lifelong.train.optim import build_optimizers, schedule
from lifelong.train.planning import compile_blocks, measure_step

LABEL = "consolidated"
_DREAM = "unprompted"  # the domain of what a base wrote itself
_DREAM_TOKENS = 256
_AVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6)  # shares of the new weights that are tried


def consolidate(model: Path, settings: ConsolidateSettings, *, dry_run: bool = False) -> Consolidation | Forecast:
    """Fold a model's adapters into its weights; commits the outcome, or undoes it, and records it either way.

    Args:
        model: a model directory.
        settings: how.
        dry_run: say what would be done and how long it takes, return that, and change nothing.

    Raises:
        LifelongError: the model has no adapters, or no memory of any text.
        Interrupted: Ctrl-C; the model is untouched.
    """
    root = find_model(Path(model))
    read_config(root).require_causal("be consolidated")
    settings = settings.model_copy(update={"sequence_length": row_length(root, settings)})
    with opened(root, settings, dry_run=dry_run) as place:
        store = place.store
        names = store.adapters()
        if not names:
            raise LifelongError("the model has no adapters: there is nothing to fold in", where=str(root))
        teacher, tokenizer = load_model(root, device=place.device)
        if not teacher.plain_logits:
            raise LifelongError("models of this family cannot be consolidated yet: they scale or cap their logits")
        memory = ReplayMemory.load(root / MEMORY)
        memory.capacity = max(memory.capacity, memory.size)
        run = RunFolder.create(place.runs, "consolidate", settings)
        folding = _Folding(root, store, settings, teacher, tokenizer, memory, run)
        bf16 = pick_precision(place.device, settings.precision) == "bf16"
        with recorded(run, "consolidate", [str(model)]):
            return folding.fold(names, bf16=bf16, dry_run=dry_run)


@dataclass
class _Folding:
    """A consolidation in the making."""

    root: Path
    store: ModelStore
    settings: ConsolidateSettings
    teacher: LanguageModel
    tokenizer: Tokenizer
    memory: ReplayMemory
    run: RunFolder

    def fold(self, names: list[str], *, bf16: bool, dry_run: bool) -> Consolidation | Forecast:
        settings, state = self.settings, self.store.state()
        gate = self._open("gate")
        test = {} if dry_run else self._open("test")
        for holdings, title in ((gate, "Measuring the gate"), (test, "Measuring before")):
            read_held(self.teacher, holdings, title)
        student = copy.deepcopy(self.teacher)
        student.experts = None
        student.requires_grad_(True)
        self.teacher.requires_grad_(False).eval()
        loader, teachers = self._rows(state, dry_run=dry_run)
        plan = self._plan(student, loader, teachers, learning_rate(settings, state), bf16=bf16)
        if dry_run:
            return Forecast.of(self.run.facts)
        needs = Estimator(student, self.tokenizer, settings, self.run.path / "cache", self._length)
        folded = adapters_of(state)
        fisher = needs.before(self.root, self.memory, folded)
        plan.pull = None if fisher is None else fisher.pull(student, settings.ewc_lambda)
        moving = Moving(LABEL, None)
        moving.begin(student)
        label, size = "Consolidating", self.run.facts["bytes_per_token"]
        with graceful_interrupts() as stop:
            seconds = Drive(run=self.run, label=label, bytes_per_token=size).steps(student, loader, plan, stop)
        student.eval()
        decision, changes = self._average(student, moving, gate)
        before, after = scores(test), scores(_read(student, test, "Measuring after"))
        tokens = sum(row["tokens"] for row in self.run.metrics())
        shares = zip(loader.shares, teachers, strict=True)
        taught = sum(share for share, (_, alpha) in shares if alpha) / sum(loader.shares)
        matrix = extend_matrix(state.get("matrix"), _bits(before), _bits(after), LABEL, self._measuring)
        result = Consolidation(
            model=self.root,
            run=self.run.path,
            adapters=names,
            accepted=decision.accepted or settings.accept,
            decision=decision,
            changes=changes,
            matrix=matrix,
            share=moving.scale,
            steps=plan.total_steps,
            tokens=tokens,
            flops=session_flops(student.config, tokens, self._length, taught=taught),
            seconds=seconds,
        )
        facts = {**result.to_dict(), "settings": settings.model_dump(mode="json")}
        accepted = result.accepted
        if fisher is not None and accepted:
            fisher = needs.after(fisher, self.memory.of(folded))
        commit_consolidation(self.store, student, self.tokenizer, facts, self.memory, fisher, accepted=accepted)
        self.run.record(status="finished", **result.to_dict())
        return result

    @property
    def _length(self) -> int:
        longest = self.teacher.config.max_seq_len
        return min(self.settings.sequence_length or longest, longest)

    @cached_property
    def _measuring(self) -> Measuring:
        asked = Measuring(self._length, self.settings.max_bytes)
        return measuring_of(self.store.state().get("matrix"), asked)

    def _open(self, split: str) -> Holdings:
        slices = read_slices(self.root, list(self.store.state().get("domains", [])), split)
        how = Measuring(self._length, self.settings.max_bytes) if split == "gate" else self._measuring
        return hold(self.tokenizer, slices, how)

    def _rows(self, state: dict[str, Any], *, dry_run: bool) -> tuple[Loader, list[tuple[str, float]]]:
        """Return the rows of the memory, and of each of their sources the teacher and its part of the loss."""
        settings, adapters = self.settings, adapters_of(state)
        if settings.samples and "pretrained" in state and not set(self.memory.counts()) - set(adapters):
            # What the base was pretrained on is not here: what it writes unprompted stands for it.
            if dry_run:
                progress.note(f"First the base would write {settings.samples} texts unprompted; they are not counted.")
            else:
                texts = dream(self.teacher, self.tokenizer, settings.samples, _DREAM_TOKENS, settings.seed)
                self.memory.add(texts, _DREAM)
        if not self.memory.counts():
            raise LifelongError(
                "the model remembers no text to learn from",
                where=str(self.root),
                fix="Lessons with --replay-buffer-size 0 leave none: teach them again with a memory.",
            )
        place = self.run.path / "cache" / "replay"
        beside = [domain for domain in self.memory.counts() if domain in adapters]
        known = [domain for domain in self.memory.counts() if domain not in adapters]
        sources, teachers = [], []
        for domains, share, alpha in (
            (known, settings.replay_share if beside else 1.0, settings.teacher_share),
            (beside, 1.0 - settings.replay_share if known else 1.0, settings.adapter_teacher_share),
        ):
            for domain in domains:
                part = share / len(domains)
                found = replay_sources(self.memory.of([domain]), self.tokenizer, place, self._length, part)
                sources += found
                teachers += [(adapters.get(domain, BASE), alpha)] * len(found)
        return Loader(sources, batch_size=settings.batch_size, seed=settings.seed), teachers

    def _plan(
        self, student: LanguageModel, loader: Loader, teachers: list[tuple[str, float]], rate: float, *, bf16: bool
    ) -> Plan:
        settings = self.settings
        optimizer = OptimizerSettings(name="muon", learning_rate=rate, weight_decay=0.1)
        objective = Distillation(self.teacher, teachers)

        def make(total: int = 0) -> Plan:
            return Plan(
                total_steps=total,
                optimizers=build_optimizers(student, optimizer, bf16=bf16),
                rate=schedule(ScheduleSettings(kind="linear"), total, rate),
                accumulate=settings.gradient_accumulation_steps,
                bf16=bf16,
                objective=objective,
            )

        seconds = measure_step(student, loader, make)
        rows = settings.batch_size * settings.gradient_accumulation_steps
        epoch_rows = sum(len(source) for source in loader.sources)
        steps = steps_wanted(settings, seconds, epoch_rows / rows)
        compiled = compile_blocks(student, settings.compile, steps * seconds)
        folded = adapters_of(self.store.state())
        needs = Estimator(student, self.tokenizer, settings, self.run.path / "cache", self._length)
        joining = self.memory.of(folded).counts()
        ewc = needs.forecast(self.root, self.memory, folded, joining, seconds / (rows * self._length))
        progress.note(
            f"All weights, from the text of {progress.spell_count(len(self.memory.counts()), 'domain')}: "
            f"{progress.spell_count(steps, 'step')} of {rows} x {self._length} tokens, "
            f"{steps * rows / epoch_rows:.2f} epochs of the memory at rate {rate:g}, "
            f"about {progress.spell_seconds(steps * seconds)} of training{ewc}; compile {compiled}"
        )
        caches = [source.documents(0)[0] for source in loader.sources]
        self.run.record(
            status="running",
            mode="full",
            steps=steps,
            step_seconds_estimate=seconds,
            tokens_per_step=rows * self._length,
            replay_share=settings.replay_share,
            compile=compiled,
            precision="bf16" if bf16 else "fp32",
            bytes_per_token=sum(cache.bytes_per_trained_token for cache in caches) / len(caches),
            learning_rate=rate,
        )
        return make(steps)

    def _average(self, student: LanguageModel, moving: Moving, gate: Holdings) -> tuple[Decision, dict[str, Change]]:
        """Average old and new weights as far as the gate asks for, and return its word.

        Smaller shares of the new weights undo more of what was gained, so the largest that passes is taken; where none
        passes, the one whose worst domain lost least.
        """
        before = scores(gate)
        best: tuple[float, float, dict[str, Change]] | None = None
        for share in _AVERAGES:
            moving.step_back(student, share)
            after = scores(_read(student, gate, f"Measuring the gate, {share:.0%} new"))
            changes = {domain: change(before[domain], score) for domain, score in after.items()}
            worst = max(item.excess(self.settings.tolerance) for item in changes.values())
            if best is not None and worst >= best[0]:
                break
            best = worst, share, changes
            if worst <= 0:
                break
        assert best is not None
        moving.step_back(student, best[1])
        return decide_all(best[2], tolerance=self.settings.tolerance), best[2]


def _read(model: LanguageModel, holdings: Holdings, title: str) -> Holdings:
    """Return the slices as plain weights read them, without the experts' readings."""
    bare = {domain: replace(held, panel=replace(held.panel, readings={})) for domain, held in holdings.items()}
    return with_reading(model, bare, BASE, title)


def _bits(found: dict[str, Score]) -> dict[str, float]:
    return {domain: score.bits_per_byte for domain, score in found.items()}
