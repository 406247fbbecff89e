"""TensorBoard's event files of a run."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError

_TAGS = {
    "loss": "loss/train",
    "gate_loss": "loss/held_out",
    "perplexity": "perplexity/train",
    "gate_perplexity": "perplexity/held_out",
    "bits_per_byte": "bits_per_byte/train",
    "gate_bits_per_byte": "bits_per_byte/held_out",
    "gate_token_accuracy": "token_accuracy/held_out",
    "lr": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens_per_second": "tokens_per_second",
}


class Board:
    """Writes scalars and samples; open it with `open_board`."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote after its checkpoint is taken back: the steps are done again.
        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write one row of the metrics."""
        values = {**row, "perplexity": math.exp(min(row["loss"], 700.0))}
        for name, tag in _TAGS.items():
            if name in values:
                self._writer.add_scalar(tag, values[name], row["step"])

    def sample(self, step: int, prompt: str, text: str, number: int) -> None:
        """Write one sample; indented, so that Markdown shows it as it is."""
        shown = "\n".join(f"    {line}" for line in (prompt + text).split("\n"))
        self._writer.add_text(f"samples/{prompt or 'from nothing'}/{number}", shown, step)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()


def open_board(folder: Path, wanted: bool | None, start: int) -> Board | None:
    """Return a board, or None where it is not wanted or, without a word on it, TensorBoard is not installed.

    Raises:
        LifelongError: it is wanted and not installed.
    """
    installed = importlib.util.find_spec("tensorboard") is not None
    if wanted and not installed:
        raise LifelongError("TensorBoard is not installed", fix="`pip install tensorboard`, or leave the setting out.")
    return Board(folder, start) if installed and wanted is not False else None
