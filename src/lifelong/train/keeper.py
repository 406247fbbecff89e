"""The models that a run keeps on its way: one for each epoch, the best, the latest and the final one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from lifelong import progress
from lifelong.files import atomic_directory, check_manifest, link_directory

BEST, LATEST, FINAL = "best", "latest", "final"
_KIND = "model"


class Keeper:
    """Model directories in a run's folder: ``epoch_N/``, ``best/``, ``latest/``, ``final/``.

    Each is whole or not there, and stands on its own.
    The same weights under two names are hard links: they take their space once, and deleting one leaves the other.

    Args:
        run: the run's folder.
        write: writes a model directory into an empty directory.
        keep_epochs: the newest epochs that are kept; 0 writes none.
        best: the name of ``best/``.
    """

    def __init__(self, run: Path, write: Callable[[Path], None], keep_epochs: int, *, best: str = BEST) -> None:
        self.run = run
        self._best = run / best
        self._write = write
        self._keep = keep_epochs
        self._newest: tuple[int, Path] | None = None

    def epoch(self, number: int, step: int) -> None:
        """Keep the weights at the end of an epoch, and take away epochs that are too many."""
        if self._keep:
            self._save(self.run / f"epoch_{number}", step)
            self.latest(self.run / f"epoch_{number}")
            epochs = [path for path in self.run.glob("epoch_*") if path.name.removeprefix("epoch_").isdigit()]
            epochs.sort(key=lambda path: int(path.name.removeprefix("epoch_")))
            for path in epochs[: -self._keep]:
                shutil.rmtree(path)

    def best(self, step: int) -> None:
        """Keep the weights as the best."""
        self._save(self._best, step)

    def latest(self, source: Path) -> None:
        """Let ``latest/`` be what ``source`` is."""
        link_directory(source, self.run / LATEST)

    def final(self, step: int) -> None:
        """Keep the weights with which the run ends: those after ``step``, or the best, where they were put back."""
        self._save(self.run / FINAL, step)
        self.latest(self.run / FINAL)

    def whole_best(self, step: int) -> Path | None:
        """Return ``best/`` of ``step``, which is to be the final model; None, with a note, where it is damaged."""
        if problem := check_manifest(self._best):
            progress.note(f"the best weights are damaged ({problem}); going on with the last ones")
            return None
        self._newest = step, self._best
        return self._best

    def _save(self, path: Path, step: int) -> None:
        if self._newest is not None and self._newest[0] == step and self._newest[1].is_dir():
            link_directory(self._newest[1], path)
        else:
            with atomic_directory(path, _KIND, step=step) as place:
                self._write(place)
        self._newest = step, path
