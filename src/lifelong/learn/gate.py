"""Whether a lesson is kept: decided on the gate slices, never on the test slices."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lifelong.evaluate.bits import Score


@dataclass(frozen=True)
class Change:
    """Change of bits per byte on the same documents, and its standard error (None with fewer than two documents)."""

    before: float
    after: float
    standard_error: float | None

    @property
    def difference(self) -> float:
        """Bits per byte; negative is better."""
        return self.after - self.before

    @property
    def relative(self) -> float:
        """The difference as a share of the value before."""
        return self.difference / self.before

    def __str__(self) -> str:
        return f"{self.before:.3f} to {self.after:.3f} bits per byte ({self.relative:+.1%})"


def change(before: Score, after: Score) -> Change:
    """Compare two scores of the same documents.

    The standard error is that of a ratio estimator over the documents' paired differences (Cochran 1977, section 2.11):
    pairing takes out how hard each document is, so far smaller changes show.
    """
    size = len(before.documents)
    error = None
    if size > 1:
        ratio = (after.nats - before.nats) / before.bytes
        residuals = sum(
            (late - early - ratio * length) ** 2
            for (early, length), (late, _) in zip(before.documents, after.documents, strict=True)
        )
        error = math.sqrt(residuals * size / (size - 1)) / before.bytes / math.log(2)
    return Change(before.bits_per_byte, after.bits_per_byte, error)


@dataclass
class Decision:
    """The gate's word on a lesson, with its reasons; ``learned`` is whether the taught domain gained."""

    accepted: bool
    learned: bool = True
    reasons: list[str] = field(default_factory=list)


def decide_all(changes: dict[str, Change], *, tolerance: float = 0.01) -> Decision:
    """Keep what costs no domain more than the tolerance of its bits per byte, or than two standard errors."""
    decision = Decision(accepted=True)
    for domain, moved in changes.items():
        good = moved.difference <= max(tolerance * moved.before, 2 * (moved.standard_error or 0.0))
        decision.accepted &= good
        word = "kept" if good else "lost beyond the tolerance"
        decision.reasons.append(f"{domain}: {word}, {moved}")
    return decision


def decide(changes: dict[str, Change], taught: str, *, tolerance: float = 0.01) -> Decision:
    """Keep a lesson that teaches more than noise and takes no old domain more than the tolerance.

    The taught domain must gain more than two standard errors; no other may lose more than ``tolerance`` of its bits per
    byte or two standard errors, whichever is more. A domain without a measurable slice does not vote.
    """
    decision = Decision(accepted=True)
    for domain, moved in changes.items():
        noise = 2 * (moved.standard_error or 0.0)
        if domain == taught:
            good = moved.difference < -noise
            decision.learned = good
            word = "learned" if good else "not learned beyond noise"
        else:
            good = moved.difference <= max(tolerance * moved.before, noise)
            word = "kept" if good else "forgotten beyond the tolerance"
        decision.accepted &= good
        decision.reasons.append(f"{domain}: {word}, {moved}")
    if taught not in changes:
        decision.reasons.append(f"{taught}: unmeasured, its text is too small for a gate slice")
    return decision
