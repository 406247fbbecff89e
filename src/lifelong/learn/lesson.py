"""A lesson in the making, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lifelong.evaluate.growing import measuring_of
from lifelong.evaluate.matrix import Matrix, Measuring
from lifelong.evaluate.routing import bound_bits
from lifelong.learn.fisher import RunningFisher
from lifelong.learn.gate import Change, Decision
from lifelong.learn.method import Mode
from lifelong.learn.weights import Moving
from lifelong.model.base import LanguageModel
from lifelong.model.experts import BASE
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.train.folder import RunFolder

# What became of the other attempt, by its mode, and whether the gate would have kept it.
_TRIED = {
    ("full", False): "First all weights were taught, and undone",
    ("full", True): "All weights, as far as the gate let them go, taught less",
    ("adapter", False): "An adapter was tried as well, and undone",
    ("adapter", True): "An adapter was tried as well, and taught less",
}


@dataclass(frozen=True)
class Attempt:
    """One way of teaching a lesson, and what the gate said of it; changes are of the gate slices.

    ``scale`` is the share of its way that the weights went in the end, and ``flops`` what training computed.
    ``predicted_damage`` is EWC's, of the weights or the new adapter alone, ``measured_damage`` what the gate measured
    of the model as it answers: the rise of the old domains' losses, added up, in nats per token.
    """

    run: Path
    mode: Mode
    decision: Decision
    changes: dict[str, Change]
    scale: float
    replay_share: float
    steps: int
    tokens: int
    flops: float
    seconds: float
    predicted_damage: float | None
    measured_damage: float | None

    def figures(self, root: Path) -> dict[str, Any]:
        """Return plain values, the run as a path below the model directory."""
        return {
            "run": self.run.relative_to(root).as_posix(),
            "mode": self.mode,
            "passed": self.decision.accepted,
            "scale": self.scale,
            "reasons": self.decision.reasons,
            "replay_share": self.replay_share,
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": self.flops,
            "seconds": round(self.seconds, 1),
            "predicted_damage": self.predicted_damage,
            "measured_damage": self.measured_damage,
            "gate": {domain: asdict(moved) for domain, moved in self.changes.items()},
        }


@dataclass(frozen=True)
class LessonResult(Attempt):
    """What a lesson did, kept or not: the attempt that counts, and the matrix, which is of the test slices.

    ``experts`` is how many answered before a new adapter joined them (0: all weights moved). ``alone`` holds the bits
    per byte of every expert by itself on each domain; the matrix is of all together, as the model answers. ``undone``
    is the other attempt, where two were made: that with all weights, which the gate undid, or of which it kept a part
    that taught less than an adapter; or the adapter, where it taught less.
    """

    model: Path
    domain: str
    session: int
    accepted: bool
    matrix: Matrix
    experts: int
    alone: dict[str, dict[str, float]]
    undone: Attempt | None

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
            "mode": self.mode,
            "scale": self.scale,
            "replay_share": self.replay_share,
            "alone": self.alone,
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": self.flops,
            "seconds": round(self.seconds, 1),
            "predicted_damage": self.predicted_damage,
            "measured_damage": self.measured_damage,
            "gate": {domain: asdict(moved) for domain, moved in self.changes.items()},
            "undone": self.undone.figures(self.model) if self.undone else None,
        }

    def summary(self) -> str:
        """Return a few lines for the screen."""
        word = "kept" if self.decision.accepted else "kept all the same, as asked for"
        if not self.accepted:
            word = "undone: the model is as it was"
            if self.mode == "full" and self.decision.learned:
                word += " (--mode adapter teaches it beside the weights)"
        lines = [f"Lesson {self.session} ({self.domain}) {word}."]
        if self.undone:
            lines.append(f"  {_TRIED[self.undone.mode, self.undone.decision.accepted]}:")
            lines += [f"    {line}" for line in self.undone.decision.reasons]
            lines.append("  An adapter beside them:" if self.mode == "adapter" else "  All weights:")
        indent = "    " if self.undone else "  "
        lines += [indent + line for line in self.decision.reasons]
        if self.accepted and self.experts:
            bits = bound_bits(self.experts + 1, self.experts)
            lines.append(f"  beside what was there, the adapter can cost a text {bits:.2f} bits in all, and no more")
        return "\n".join(lines)


@dataclass
class Lesson:
    """A lesson in the making."""

    root: Path
    store: ModelStore
    settings: LearnSettings
    sources: list[str]
    corpus: Corpus
    model: LanguageModel
    tokenizer: Tokenizer
    base_fingerprint: str
    memory: ReplayMemory
    bf16: bool
    run: RunFolder
    mode: Mode
    rate: float
    moving: Moving = field(init=False)
    fisher: RunningFisher | None = None  # what the weights are needed for, where EWC is on

    @property
    def experts(self) -> list[str]:
        """Who answers before the lesson: the base, and the adapters there are."""
        return [BASE, *self.store.adapters()]

    @property
    def expert(self) -> str:
        """Under which name the model reads once it is taught: that of the new adapter, or the base's."""
        return self.moving.name if self.moving.adapter else BASE

    @cached_property
    def measuring(self) -> Measuring:
        """How the matrix is measured."""
        asked = Measuring(self.sequence_length, self.settings.max_bytes)
        return measuring_of(self.store.state().get("matrix"), asked)

    @property
    def sequence_length(self) -> int:
        """Tokens of a row: what the settings ask for, as far as the model goes."""
        longest = self.model.config.max_seq_len
        return min(self.settings.sequence_length or longest, longest)
