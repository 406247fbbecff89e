"""One training run, ready to drive, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.bits import Score, score
from lifelong.model.transformer import Transformer
from lifelong.settings.train import TrainSettings
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import Loader
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import ChatSource, WindowSource
from lifelong.tokens.shards import TokenCache
from lifelong.train.folder import RunFolder
from lifelong.train.founding import MEMORY
from lifelong.train.loop import Plan
from lifelong.train.optim import build_optimizers, learning_rate, schedule


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
        }


@dataclass
class Job:
    """One run, ready to drive: everything that `train` decides and `resume` finds again."""

    out: Path
    run: RunFolder
    settings: TrainSettings
    corpus: Corpus
    model: Transformer
    tokenizer: Tokenizer
    loader: Loader
    cache: TokenCache
    bf16: bool

    @property
    def domain(self) -> str:
        """The name under which the model remembers this text."""
        return self.settings.domain or ("chat" if self.settings.phase == "sft" else "base")

    def plan(self, total_steps: int = 0) -> Plan:
        """Return fresh optimizers and the schedule over ``total_steps``."""
        optimizer = self.settings.optimizer
        return Plan(
            total_steps=total_steps,
            optimizers=build_optimizers(self.model, optimizer, bf16=self.bf16),
            rate=schedule(self.settings.schedule, total_steps, learning_rate(optimizer)),
            accumulate=self.settings.gradient_accumulation_steps,
            grad_clip=optimizer.grad_clip,
            bf16=self.bf16,
        )

    def measure(self) -> Score:
        """Return the model's score on the gate split."""
        return score(
            self.model,
            self.tokenizer,
            self.corpus.gate,
            sequence_length=self.loader.sequence_length,
            max_bytes=self.settings.evaluation.max_bytes,
        )


def assemble(
    out: Path,
    run: RunFolder,
    settings: TrainSettings,
    corpus: Corpus,
    model: Transformer,
    tokenizer: Tokenizer,
    cache: TokenCache,
    precision: str,
) -> Job:
    """Bring together what is to be trained and the loader of its rows, replay mixed in where asked for."""
    length = min(settings.sequence_length or model.config.max_seq_len, model.config.max_seq_len)
    kind = ChatSource if settings.phase == "sft" else WindowSource
    replayed = []
    if settings.replay:
        memory = ReplayMemory.load(out / MEMORY)
        replayed = replay_sources(memory, tokenizer, run.path / "cache" / "replay", length, settings.replay)
        if not replayed:
            progress.note("note: there is no replay memory yet, so nothing is replayed")
    sources = [(kind(cache, length), 1.0 - settings.replay if replayed else 1.0), *replayed]
    loader = Loader(sources, batch_size=settings.batch_size, seed=settings.seed)
    return Job(out, run, settings, corpus, model, tokenizer, loader, cache, precision == "bf16")
