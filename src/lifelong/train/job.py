"""One training run, ready to drive, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from lifelong import progress
from lifelong.evaluate.bits import Score, score
from lifelong.model.base import LanguageModel
from lifelong.settings.train import TrainSettings
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import Loader
from lifelong.tokens.mixture import Mixture, NamedCache, plan_mixture
from lifelong.tokens.pairs import PairSource
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
from lifelong.tokens.shards import Ids, TokenCache
from lifelong.train.distributed import ALONE, World
from lifelong.train.folder import RunFolder
from lifelong.train.founding import MEMORY
from lifelong.train.health import Health
from lifelong.train.loop import Plan
from lifelong.train.masked import hiding_of
from lifelong.train.optim import build_optimizers, learning_rate, schedule
from lifelong.train.planning import steps_of
from lifelong.train.scaler import LossScaler
from lifelong.train.seq2seq import text_share
from lifelong.train.start import Origin

Hide = Callable[[Ids, Ids], tuple[Ids, Ids]]


@dataclass(frozen=True)
class TrainResult:
    """What a run did. Bits per byte are of the gate split: before the first step, and at the end."""

    out: Path
    run: Path
    parameters: int
    steps: int
    tokens: int
    seconds: float
    before: Score | None
    after: Score | None
    peak_memory_bytes: int
    early_stopped: bool = False
    epochs_completed: int = 0
    # The step whose weights were the best measured; with early stopping they are the model.
    best_step: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "out": str(self.out),
            "run": str(self.run),
            "parameters": self.parameters,
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else None,
            "before": self.before.to_dict() if self.before else None,
            "after": self.after.to_dict() if self.after else None,
            "peak_memory_bytes": self.peak_memory_bytes,
            "early_stopped": self.early_stopped,
            "epochs_completed": self.epochs_completed,
            "best_step": self.best_step,
        }


@dataclass
class Job:
    """One run, ready to drive: everything that `train` decides and `resume` finds again."""

    out: Path
    run: RunFolder
    settings: TrainSettings
    corpus: Corpus
    model: LanguageModel
    tokenizer: Tokenizer
    caches: list[NamedCache]
    sources: list[RowSource]  # one for each cache
    replayed: list[tuple[RowSource, float]]
    loader: Loader
    precision: str  # of matrix products: bf16, fp16, fp32
    cached: bool  # the caches are the user's, not made of the run's own text
    hide: Hide | None  # tokens are hidden from the model
    origin: Origin
    world: World = ALONE  # the processes that train the model

    @property
    def bf16(self) -> bool:
        """Whether matrix products are in bf16."""
        return self.precision == "bf16"

    @property
    def domain(self) -> str:
        """The name under which the model remembers this text."""
        return self.settings.domain or ("chat" if self.settings.phase == "sft" else "base")

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes that a trained token of the mixture stands for."""
        sized = [(item.weight / item.cache.tokens, item.cache.facts) for item in self.caches]
        trained = sum(weight * facts.trained_tokens for weight, facts in sized)
        share = text_share(self.sources) if self.settings.phase == "seq2seq" else 1.0
        return share * sum(weight * facts.trained_bytes for weight, facts in sized) / trained if trained else 0.0

    @property
    def epoch_rows(self) -> float:
        """Rows of one pass over the text; of a mixture: as many as its sources have together, replay beside them."""
        return _epoch_rows(self.loader, self.sources, self.replayed)

    def mix(self, steps: int) -> Mixture | None:
        """Share the run's tokens out among its caches, small ones held back; None where there is but one."""
        if len(self.caches) == 1:
            return None
        total = sum(item.weight for item in self.caches)
        sizes: dict[str, int] = {}
        rows_per_token = 0.0
        for item, source in zip(self.caches, self.sources, strict=True):
            sizes[item.name] = round(len(source) * source.tokens_per_row)
            rows_per_token += item.weight / total / source.tokens_per_row
        rows = steps * self.settings.batch_size * self.settings.gradient_accumulation_steps
        planned = rows * (1.0 - sum(share for _, share in self.replayed)) / rows_per_token
        weights = {item.name: item.weight for item in self.caches}
        # The text of a run is repeated as often as its epochs say.
        limit = self.settings.data.max_epochs if self.cached else math.inf
        mixture = plan_mixture(sizes, weights, max(1, round(planned)), max_epochs=limit)
        self.caches = [replace(item, weight=mixture.shares[item.name]) for item in self.caches]
        self.loader = _loader(self.settings, self.caches, self.sources, self.replayed, self.hide)
        return mixture

    def plan(self, total_steps: int = 0) -> Plan:
        """Return fresh optimizers and the schedule over ``total_steps``."""
        shared = self.world.model
        if shared is None:
            return make_plan(self.settings, self.model, self.precision, total_steps)
        self.world.tell("plan")
        plan = make_plan(self.settings, shared.trained, self.precision, total_steps)
        shared.adopt(plan)
        return plan

    def measure(self) -> Score:
        """Return the model's score on the gate split: on a part of it, for it is measured often."""
        self.world.refresh()
        return score(
            self.model,
            self.tokenizer,
            self.corpus.gate,
            sequence_length=self.loader.sequence_length,
            max_bytes=self.settings.evaluation.gate_bytes,
        )


def _epoch_rows(loader: Loader, sources: list[RowSource], replayed: list[tuple[RowSource, float]]) -> float:
    if len(sources) == 1:
        return loader.epoch_rows
    return sum(len(source) for source in sources) / (1.0 - sum(share for _, share in replayed))


def epoch_steps(settings: TrainSettings, caches: list[NamedCache], length: int) -> int:
    """Return the steps of a run over caches that is counted in epochs, before there is a job.

    Replay, of a memory that may not be there yet, makes an epoch longer by its share.
    """
    assert settings.epochs is not None
    sources = [_source(settings.phase, item.cache, length) for item in caches]
    rows = _epoch_rows(_loader(settings, caches, sources, [], None), sources, [])
    per_step = settings.batch_size * settings.gradient_accumulation_steps
    return steps_of(settings.epochs, rows / (1.0 - settings.replay), per_step)


def make_plan(settings: TrainSettings, model: nn.Module, precision: str, total_steps: int = 0) -> Plan:
    """Return fresh optimizers of a model's weights, and the schedule over ``total_steps``."""
    optimizer = settings.optimizer
    return Plan(
        total_steps=total_steps,
        optimizers=build_optimizers(model, optimizer, bf16=precision == "bf16"),
        rate=schedule(settings.schedule, total_steps, learning_rate(optimizer)),
        accumulate=settings.gradient_accumulation_steps,
        grad_clip=optimizer.grad_clip,
        bf16=precision == "bf16",
        scaler=LossScaler() if precision == "fp16" else None,
        health=Health(settings.health),
    )


def assemble(
    out: Path,
    run: RunFolder,
    settings: TrainSettings,
    corpus: Corpus,
    model: LanguageModel,
    tokenizer: Tokenizer,
    caches: list[NamedCache],
    precision: str,
    origin: Origin,
) -> Job:
    """Bring together what is to be trained and the loader of its rows, replay mixed in where asked for."""
    length = min(settings.sequence_length or model.config.max_seq_len, model.config.max_seq_len)
    pairs = settings.phase == "seq2seq"
    replayed = []
    if settings.replay:
        memory = ReplayMemory.load((origin.past or out) / MEMORY)
        replayed = replay_sources(
            memory, tokenizer, run.path / "cache" / "replay", length, settings.replay, pairs=pairs
        )
        if not replayed:
            progress.note("note: there is no replay memory yet, so nothing is replayed")
    sources: list[RowSource] = [_source(settings.phase, item.cache, length) for item in caches]
    for item, source in zip(caches, sources, strict=True):
        where = f" in '{item.name}'" if len(caches) > 1 else ""
        if isinstance(source, ChatSource) and source.truncated + source.skipped:
            progress.note(
                f"note: of {item.cache.documents:,} conversations{where}, {source.truncated:,} are cut at "
                f"{length} tokens, and {source.skipped:,} are left out, with no answer within them"
            )
        if isinstance(source, PairSource) and source.truncated + source.skipped:
            progress.note(
                f"note: of {len(source):,} answers{where}, {source.truncated:,} or their prompts are cut at "
                f"{length} tokens; {source.skipped:,} documents without an answer are left out"
            )
    hide = hiding_of(model, tokenizer, settings, [*sources, *(source for source, _ in replayed)])
    loader = _loader(settings, caches, sources, replayed, hide)
    cached = not caches[0].cache.path.is_relative_to(run.path)
    return Job(
        out,
        run,
        settings,
        corpus,
        model,
        tokenizer,
        caches,
        sources,
        replayed,
        loader,
        precision,
        cached,
        hide,
        origin,
    )


def _source(phase: str, cache: TokenCache, length: int) -> RowSource:
    if phase == "seq2seq" and cache.has_mask:
        return PairSource(cache, length)
    return (ChatSource if phase == "sft" else WindowSource)(cache, length)


def _loader(
    settings: TrainSettings,
    caches: list[NamedCache],
    sources: list[RowSource],
    replayed: list[tuple[RowSource, float]],
    hide: Hide | None,
) -> Loader:
    share = 1.0 - sum(weight for _, weight in replayed)
    total = sum(item.weight for item in caches)
    mixed = [(source, share * item.weight / total) for item, source in zip(caches, sources, strict=True)]
    return Loader([*mixed, *replayed], batch_size=settings.batch_size, seed=settings.seed, hide=hide)
