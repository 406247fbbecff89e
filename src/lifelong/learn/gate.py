"""Whether a lesson is kept: decided on the gate slices, never on the test slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lifelong.evaluate.bits import Score

_FEW = 5  # documents, or blocks of one: the spread of fewer says next to nothing


@dataclass(frozen=True)
class Change:
    """Change of bits per byte on the same documents, and its standard error (None where it cannot be estimated).

    ``nats_per_token`` is the change in the unit of the loss.
    """

    before: float
    after: float
    standard_error: float | None
    nats_per_token: float = 0.0

    @property
    def difference(self) -> float:
        """Bits per byte; negative is better."""
        return self.after - self.before

    @property
    def relative(self) -> float:
        """The difference as a share of the value before."""
        return self.difference / self.before

    def excess(self, tolerance: float) -> float:
        """Bits per byte lost beyond what is allowed: the tolerance or two standard errors, whichever is more."""
        return self.difference - max(tolerance * self.before, 2 * (self.standard_error or 0.0))

    def __str__(self) -> str:
        unsure = "" if self.standard_error is not None else "; too little text to tell how sure that is"
        return f"{self.before:.3f} to {self.after:.3f} bits per byte ({self.relative:+.1%}){unsure}"


def change(before: Score, after: Score) -> Change:
    """Compare two scores of the same documents.

    The standard error is that of a ratio estimator over the documents' paired differences (Cochran 1977, section 2.11):
    pairing takes out how hard each document is, so far smaller changes show.

    With fewer than five documents their spread says little, and with one nothing. Then the paired differences of blocks
    of about √n of a document's n tokens are taken for draws, as batch means are (Flegal and Jones 2010, Annals of
    Statistics 38(2)), and the larger of the two errors counts. That assumes that a document is alike throughout, and
    that tokens a block apart hardly depend on one another; and it says how sure the change is on these documents, not
    on others of their domain, of which so few tell nothing. With fewer than five blocks, and one document, there is no
    estimate.
    """
    size = len(before.documents)
    errors = [_ratio_error(before.documents, after.documents)] if size > 1 else []
    if size < _FEW <= len(before.blocks):
        errors.append(_ratio_error(before.blocks, after.blocks))
    nats = (after.nats - before.nats) / max(1, before.tokens)
    return Change(before.bits_per_byte, after.bits_per_byte, max(errors, default=None), nats)


def _ratio_error(before: Sequence[tuple[float, float]], after: Sequence[tuple[float, float]]) -> float:
    """Return the standard error, in bits per byte, of the change of summed nats per byte over draws (nats, bytes)."""
    size, total = len(before), math.fsum(length for _, length in before)
    ratio = math.fsum(late - early for (early, _), (late, _) in zip(before, after, strict=True)) / total
    residuals = math.fsum(
        (late - early - ratio * length) ** 2 for (early, length), (late, _) in zip(before, after, strict=True)
    )
    return math.sqrt(residuals * size / (size - 1)) / total / math.log(2)


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
        good = moved.excess(tolerance) <= 0
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
        if domain == taught:
            good = moved.difference < -2 * (moved.standard_error or 0.0)
            decision.learned = good
            word = "learned" if good else "not learned beyond noise"
        else:
            good = moved.excess(tolerance) <= 0
            word = "kept" if good else "forgotten beyond the tolerance"
        decision.accepted &= good
        decision.reasons.append(f"{domain}: {word}, {moved}")
    if taught not in changes:
        decision.reasons.append(f"{taught}: unmeasured, its text is too small for a gate slice")
    return decision
