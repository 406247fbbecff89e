"""Loss scaling for fp16, whose smallest numbers gradients would fall below."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_GROWS_AFTER = 2000  # steps without an overflow
FLOOR, _FIRST, _CEILING = 1.0, 2.0**16, 2.0**24


class LossScaler:
    """A dynamic scale (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2): halved when gradients overflow.

    After 2,000 good steps it doubles, as that of ``torch.amp.GradScaler``; ours judges by the norm of all gradients,
    which the loop computes anyway and which is the same in all processes, and its state is two numbers.
    """

    def __init__(self) -> None:
        self.scale, self._good = _FIRST, 0

    def unscale(self, weights: Iterable[Tensor]) -> None:
        """Divide the gradients by the scale, in place."""
        grads = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_mul_(grads, 1.0 / self.scale)

    def overflowed(self, loss: float, norm: float) -> bool:
        """Take a step's loss and gradient norm, and adapt the scale.

        Returns:
            whether the step is to be left out for the scale's sake: it overflowed, and a smaller scale is still to be
            tried. A loss that is not a number is not the scale's doing.
        """
        if math.isfinite(norm):
            self._good += 1
            if self._good == _GROWS_AFTER:
                self.scale, self._good = min(2 * self.scale, _CEILING), 0
            return False
        if not math.isfinite(loss) or self.scale <= FLOOR:
            return False
        self.scale, self._good = max(self.scale / 2, FLOOR), 0
        return True

    def state(self) -> dict[str, Any]:
        """Return plain values that `restore` takes."""
        return {"scale": self.scale, "good": self._good}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.scale, self._good = state["scale"], state["good"]
