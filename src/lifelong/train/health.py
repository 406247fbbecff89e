"""Whether a step may reach the weights: judged from its loss and its gradient, before the update."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from lifelong.settings.watching import HealthSettings

_ENOUGH = 20  # losses before one can be far above them
_EARLY, _EARLY_RISE = 20, 2.0  # steps after the warm-up in which a rising loss (in nats) is said
_SIGMAS = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
# A loss is no spike unless it rises this far, in nats: at the end of a run of little text losses hardly differ.
_LEAST_RISE = 1.0


@dataclass
class _State:
    """What a checkpoint carries of it."""

    recent: list[float] = field(default_factory=list)
    bad: int = 0
    # The checkpoint that the run has gone back to last, by its step.
    went_back_to: int | None = None
    first: float | None = None
    warned: bool = False


class Health:
    """Follows the losses of a run (nats per token) and says which steps are bad.

    Equal losses give equal judgements, so processes that train together agree without a word.
    """

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self.settings = settings or HealthSettings()
        self._state = _State()
        self._finite = True

    @property
    def bad(self) -> int:
        """Bad steps in a row, up to now."""
        return self._state.bad

    @property
    def exhausted(self) -> bool:
        """Whether there were so many bad steps in a row that leaving them out does not help."""
        return self._state.bad >= self.settings.patience

    @property
    def went_back_to(self) -> int | None:
        """The step of the checkpoint that the run has gone back to last."""
        return self._state.went_back_to

    @property
    def finite(self) -> bool:
        """Whether the last bad step was one of numbers: a spike."""
        return self._finite

    def judge(self, loss: float, norm: float) -> str | None:
        """Take a step's loss and gradient norm; returns what is wrong with it, or None for a good step."""
        problem = self._problem(loss, norm)
        if problem is None:
            self._state.bad = 0
            self._state.recent = [*self._state.recent[1 - self.settings.window :], loss]
        else:
            self._state.bad += 1
        return problem

    def _problem(self, loss: float, norm: float) -> str | None:
        self._finite = math.isfinite(loss) and math.isfinite(norm)
        if not math.isfinite(loss):
            return "the loss is not a number"
        if not self._finite:
            return "the gradient is not a number"
        recent = self._state.recent
        if not self.settings.spikes or len(recent) < min(_ENOUGH, self.settings.window):
            return None
        middle = statistics.median(recent)
        spread = _SIGMAS * statistics.median(abs(value - middle) for value in recent)
        # Half of what is seen can be alike, and the rest far from it (short answers, much repeated): a spike is also
        # twice as far off as the highest loss of late.
        limit = max(self.settings.spike_score * spread, 2 * (max(recent) - middle), _LEAST_RISE)
        return f"the loss jumped from about {middle:.3f} to {loss:.3f}" if loss > middle + limit else None

    def accept(self) -> None:
        """Take the loss as it is now for its course: there is nothing to go back to."""
        self._state.recent, self._state.bad = [], 0

    def went_back(self, step: int) -> None:
        """Take that the weights are those of ``step`` again."""
        self._state.went_back_to, self._state.bad = step, 0
        self._state.recent = []

    def early_word(self, step: int, loss: float, rate: float, warmup: int) -> str | None:
        """Return a word on a rate that is too high, once, where the loss rises over the first steps (1-based)."""
        state = self._state
        if state.warned or step > warmup + _EARLY or not math.isfinite(loss):
            return None
        if state.first is None:
            state.first = loss
        if loss < state.first + _EARLY_RISE:
            return None
        state.warned = True
        return (
            f"the loss rose from {state.first:.2f} to {loss:.2f} in {step} steps: a learning rate of {rate:g} is "
            "likely too high"
        )

    def state(self) -> dict[str, Any]:
        """Return plain values that `restore` takes."""
        return asdict(self._state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._state = _State(**state)
