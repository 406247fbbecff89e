"""Running a model without training it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[torch.device]:
    """Yield the model's device with dropout and gradients off; afterwards the training mode is what it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)
