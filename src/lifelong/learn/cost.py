"""What a session computes, and how long it will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lifelong.model.base import Shape

_PLANNED = ("mode", "steps", "replay_share", "learning_rate", "precision", "compile")


@dataclass(frozen=True)
class Forecast:
    """What a session would do, as a dry run finds it.

    ``tokens`` are those of all rows, replay included, and ``seconds`` of training alone. ``bits_per_byte`` is what the
    new text costs the model now: None where it is too little to be measured, and of a consolidation, which has none.
    """

    mode: str
    steps: int
    tokens: int
    seconds: float
    replay_share: float
    learning_rate: float
    precision: str
    compile: str
    bits_per_byte: float | None

    @classmethod
    def of(cls, facts: Mapping[str, Any], bits_per_byte: float | None = None) -> Forecast:
        """Return that of a run whose plan is made, from its facts."""
        return cls(
            tokens=facts["steps"] * facts["tokens_per_step"],
            seconds=round(facts["steps"] * facts["step_seconds_estimate"], 1),
            bits_per_byte=bits_per_byte,
            **{name: facts[name] for name in _PLANNED},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {"dry_run": True, **asdict(self)}


def session_flops(
    shape: Shape, tokens: int, sequence_length: int, *, adapter_parameters: int = 0, taught: float = 0.0
) -> float:
    """Return the floating-point operations of training on ``tokens`` in rows of ``sequence_length``.

    A forward pass takes 2 per weight and token, and the backward pass 2 for the gradients of what a layer read and 2
    for those of its weights (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). Beside an adapter the weights are
    frozen, and the last 2 fall away but for the adapter's own.

    Args:
        shape: of the model.
        tokens: those that were learned from.
        sequence_length: tokens of a row.
        adapter_parameters: weights of the adapter that was trained; 0: all weights moved.
        taught: share of the tokens that a teacher of the same shape read, too: a forward pass more.
    """
    whole = shape.flops_per_token(sequence_length)
    each = whole * 2 / 3 + 6.0 * adapter_parameters if adapter_parameters else whole
    return tokens * (each + taught * whole / 3)
