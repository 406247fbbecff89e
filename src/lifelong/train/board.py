"""Where a run shows itself beside its own files: TensorBoard, Weights & Biases, trackio. One shape for all three."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lifelong.errors import LifelongError
from lifelong.settings.watching import TrackingSettings, TrackioSettings, WandbSettings

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
    "memory_bytes": "memory_bytes",
    "mfu": "mfu",
}


class Board(Protocol):
    """What takes the rows and samples of a run."""

    def row(self, row: Mapping[str, Any]) -> None:
        """Take one row of the metrics."""
        ...

    def sample(self, step: int, prompt: str, text: str, number: int) -> None:
        """Take one sample."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a row is shown, under the names that all boards share."""
    values = {**row, "perplexity": math.exp(min(row["loss"], 700.0))}
    return {tag: values[name] for name, tag in _TAGS.items() if name in values}


class TensorBoard:
    """TensorBoard's event files in a folder."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote after its checkpoint is taken back: the steps are done again.
        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write one row of the metrics."""
        for tag, value in scalars(row).items():
            self._writer.add_scalar(tag, value, row["step"])

    def sample(self, step: int, prompt: str, text: str, number: int) -> None:
        """Write one sample; indented, so that Markdown shows it as it is."""
        shown = "\n".join(f"    {line}" for line in (prompt + text).split("\n"))
        self._writer.add_text(f"samples/{prompt or 'from nothing'}/{number}", shown, step)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()


class Wandb:
    """A run at Weights & Biases; offline it stays in ``folder/wandb`` until `wandb sync` sends it."""

    def __init__(self, folder: Path, name: str, settings: WandbSettings, facts: Mapping[str, Any]) -> None:
        import wandb

        try:
            self._run: Any = wandb.init(
                project=settings.project,
                entity=settings.entity,
                name=settings.name or name,
                tags=list(settings.tags),
                mode=settings.mode,
                dir=str(folder),
                config=dict(facts),
                # The same run, when it is resumed.
                id=_same_id(folder),
                resume="allow",
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
            )
        except wandb.Error as error:
            raise LifelongError(
                f"Weights & Biases: {error}", where="tracking.wandb", fix="`wandb login`, or mode: offline."
            ) from None

    def row(self, row: Mapping[str, Any]) -> None:
        """Log one row of the metrics."""
        self._run.log(scalars(row), step=row["step"])

    def sample(self, step: int, prompt: str, text: str, number: int) -> None:
        """Log one sample."""
        import wandb

        table = wandb.Table(columns=["step", "prompt", "text"], data=[[step, prompt, text]])
        self._run.log({f"samples/{prompt or 'from nothing'}/{number}": table}, step=step)

    def close(self) -> None:
        """Write what is still held back."""
        self._run.finish()


class Trackio:
    """A run in trackio's database on this machine (``TRACKIO_DIR``). Steps repeated after a resume are there twice."""

    def __init__(self, name: str, settings: TrackioSettings, facts: Mapping[str, Any]) -> None:
        # Of the hub's client, which trackio brings along.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import trackio

        with contextlib.redirect_stdout(sys.stderr):  # it greets; our standard output is for results
            self._run: Any = trackio.init(
                project=settings.project,
                name=settings.name or name,
                config=dict(facts),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def row(self, row: Mapping[str, Any]) -> None:
        """Log one row of the metrics."""
        self._run.log(scalars(row), step=row["step"])

    def sample(self, step: int, prompt: str, text: str, number: int) -> None:
        """Log one sample."""
        self._run.log({f"samples/{prompt or 'from nothing'}/{number}": prompt + text}, step=step)

    def close(self) -> None:
        """Write what is still held back."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


def check_boards(tracking: TrackingSettings) -> None:
    """Raise LifelongError where a board is asked for that is not installed: before anything else is done."""
    asked = {
        "tensorboard": ("TensorBoard", tracking.tensorboard),
        "wandb": ("Weights & Biases", tracking.wandb.enabled),
        "trackio": ("trackio", tracking.trackio.enabled),
    }
    for package, (name, wanted) in asked.items():
        if wanted and not _installed(package):
            raise LifelongError(
                f"{name} is not installed",
                where=f"tracking.{package}",
                fix=f"`pip install {package}`, or leave the setting out.",
            )


def open_boards(
    folder: Path, name: str, tracking: TrackingSettings, start: int, facts: Mapping[str, Any]
) -> list[Board]:
    """Return the boards that are asked for; TensorBoard, where nothing is said of it, if it is installed.

    Args:
        folder: the run's folder.
        name: of the run, for people.
        start: the step that the run goes on from.
        facts: the run's settings, as plain values.

    Raises:
        LifelongError: one is asked for and not installed, or refuses.
    """
    check_boards(tracking)
    boards: list[Board] = []
    if tracking.tensorboard or (tracking.tensorboard is None and _installed("tensorboard")):
        boards.append(TensorBoard(folder / "tensorboard", start))
    if tracking.wandb.enabled:
        boards.append(Wandb(folder, name, tracking.wandb, facts))
    if tracking.trackio.enabled:
        boards.append(Trackio(name, tracking.trackio, facts))
    return boards


def _same_id(folder: Path) -> str:
    """Return an identifier of a run folder that is the same whenever it is opened."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
