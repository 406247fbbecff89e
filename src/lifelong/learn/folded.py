"""What came of a consolidation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.matrix import Matrix
from lifelong.learn.gate import Change, Decision


@dataclass(frozen=True)
class Consolidation:
    """What came of it: ``share`` of the new weights, the rest of the old ones; the matrix is of the test slices."""

    model: Path
    run: Path
    adapters: list[str]
    accepted: bool
    decision: Decision
    changes: dict[str, Change]
    matrix: Matrix
    share: float
    steps: int
    tokens: int
    flops: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "model": str(self.model),
            "run": str(self.run),
            "adapters": self.adapters,
            "accepted": self.accepted,
            "reasons": self.decision.reasons,
            "matrix": self.matrix.to_dict(),
            "share": self.share,
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": self.flops,
            "seconds": round(self.seconds, 1),
        }

    def summary(self) -> str:
        """Return a few lines for the screen."""
        word = "kept: the model is one set of plain weights again"
        if not self.accepted:
            word = "undone: the model is as it was"
        elif not self.decision.accepted:
            word = "kept all the same, as asked for"
        count = len(self.adapters)
        head = f"Consolidation of {progress.spell_count(count, 'adapter')} {word}."
        return "\n".join([head, *(f"  {line}" for line in self.decision.reasons)])
