"""Early stopping: which measure was the best, and when to wait no longer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lifelong.settings.watching import EarlyStoppingSettings


@dataclass
class _State:
    """What a checkpoint carries of it. Losses are summed in nats since the last measure."""

    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    nats: float = 0.0
    tokens: int = 0


class Watch:
    """Follows one measure of a run: held-out loss, or the mean training loss between two measures (nats per token)."""

    def __init__(self, settings: EarlyStoppingSettings) -> None:
        self.settings = settings
        self._state = _State()

    @property
    def best_step(self) -> int | None:
        """The step with the best measure so far; None before the first."""
        return self._state.best_step

    @property
    def exhausted(self) -> bool:
        """Whether the run should stop now."""
        return self.settings.on and self._state.waited >= self.settings.measures

    def step(self, loss: float, tokens: int) -> None:
        """Take a step's training loss; one that is no number is left out."""
        if math.isfinite(loss):
            self._state.nats += loss * tokens
            self._state.tokens += tokens

    def measured(self, step: int, held_out: float | None) -> bool:
        """Take a measure, and return whether it is the best so far.

        Without early stopping any improvement counts. With it, only one by more than ``min_delta``.
        """
        state = self._state
        mean = state.nats / state.tokens if state.tokens else None
        state.nats, state.tokens = 0.0, 0
        value = held_out if self.settings.metric == "val_loss" else mean
        if value is None or not math.isfinite(value):
            return False
        sign = 1.0 if self.settings.mode == "min" else -1.0
        if state.best is None or sign * (state.best - value) > self.settings.min_delta:
            state.best, state.best_step, state.waited = value, step, 0
            return True
        state.waited += 1
        return False

    def wait_anew(self) -> None:
        """Forget how long nothing became better; the best stays."""
        self._state.waited = 0

    def state(self) -> dict[str, Any]:
        """Return plain values that `restore` takes."""
        return asdict(self._state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._state = _State(**state)
