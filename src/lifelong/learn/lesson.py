"""A lesson in the making, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.evaluate.bits import Score
from lifelong.evaluate.matrix import Matrix
from lifelong.learn.gate import Change, Decision
from lifelong.learn.measure import Slices, measure
from lifelong.model.adapters import AdapterConfig
from lifelong.model.base import LanguageModel
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.train.folder import RunFolder


@dataclass(frozen=True)
class LessonResult:
    """What a lesson did, kept or not. Matrix and scores are of the test slices, changes of the gate slices."""

    model: Path
    run: Path
    domain: str
    session: int
    accepted: bool
    decision: Decision
    matrix: Matrix
    changes: dict[str, Change]
    steps: int
    tokens: int
    seconds: float
    predicted_damage: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "model": str(self.model),
            "run": str(self.run),
            "domain": self.domain,
            "session": self.session,
            "accepted": self.accepted,
            "reasons": self.decision.reasons,
            "matrix": self.matrix.to_dict(),
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "predicted_damage": self.predicted_damage,
        }

    def summary(self) -> str:
        """Return a few lines for the screen."""
        word = "kept" if self.decision.accepted else "kept all the same, as asked for"
        if not self.accepted:
            word = "undone: the model is as it was"
        return "\n".join(
            [f"Lesson {self.session} ({self.domain}) {word}.", *(f"  {line}" for line in self.decision.reasons)]
        )


@dataclass
class Lesson:
    """A lesson in the making."""

    root: Path
    store: ModelStore
    settings: LearnSettings
    corpus: Corpus
    model: LanguageModel
    tokenizer: Tokenizer
    adapter: AdapterConfig | None
    memory: ReplayMemory
    bf16: bool
    run: RunFolder
    test: Slices = field(default_factory=dict)
    gate: Slices = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The adapter's name."""
        return self.settings.adapter_name or self.settings.domain

    @property
    def sequence_length(self) -> int:
        """Tokens of a row: what the settings ask for, as far as the model goes."""
        longest = self.model.config.max_seq_len
        return min(self.settings.sequence_length or longest, longest)

    def measure(self, slices: Slices, title: str) -> dict[str, Score]:
        """Return the model's score on each slice, the model as it now is."""
        return measure(
            self.model,
            self.tokenizer,
            slices,
            title=title,
            sequence_length=self.sequence_length,
            max_bytes=self.settings.max_bytes,
        )
