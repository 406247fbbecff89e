"""A run's folder: what was decided, what was measured, and the checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import disk_error, read_json, write_json, write_text
from lifelong.settings.base import Settings

RUNS = "runs"


class RunFolder:
    """``runs/NNNN-name`` inside a model directory.

    Holds ``resolved_settings.yaml``, ``run.json`` (facts decided once: steps, precision, …), ``metrics.jsonl``,
    ``samples.jsonl``, ``run.log``, ``tensorboard/``, ``plots/``, ``cache/``, ``checkpoints/`` to go on from, and the
    models ``epoch_N/``, ``best/``, ``latest/`` and ``final/``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_file = path / "metrics.jsonl"
        self.samples_file = path / "samples.jsonl"
        self.log_file = path / "run.log"
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(cls, out: Path, name: str, settings: Settings) -> RunFolder:
        """Make the next run folder of a model directory."""
        numbers = [int(match[1]) for path in (out / RUNS).glob("*") if (match := re.match(r"(\d+)-", path.name))]
        path = out / RUNS / f"{max(numbers, default=0) + 1:04d}-{name}"
        path.mkdir(parents=True)
        settings.to_yaml(path / "resolved_settings.yaml")
        return cls(path)

    @classmethod
    def find(cls, path: Path) -> RunFolder:
        """Return the run at ``path``: a run folder, or a model directory's newest.

        Raises:
            LifelongError: there is none.
        """
        for candidate in (path, *sorted((path / RUNS).glob("*"), reverse=True)):
            if (candidate / "run.json").is_file():
                return cls(candidate)
        raise LifelongError(
            "no run here", where=str(path), fix="Give a run folder, such as my-model/runs/0001-pretrain."
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What was decided about the run."""
        return dict(read_json(self.path / "run.json"))

    def resumable(self) -> bool:
        """Whether the run stopped on the way and left a checkpoint."""
        return (
            (self.path / "run.json").is_file()
            and self.facts["status"] == "running"
            and any(self.checkpoints.glob("step-*"))
        )

    def record(self, **facts: Any) -> None:
        """Add to what is known about the run."""
        before = self.facts if (self.path / "run.json").is_file() else {}
        write_json(self.path / "run.json", {**before, **facts})

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; raises LifelongError where the disk refuses."""
        try:
            with self.metrics_file.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
        except OSError as error:
            raise disk_error(error, self.metrics_file) from error

    def metrics(self) -> list[dict[str, Any]]:
        """Return all measured rows; a half-written last line is left out."""
        return _rows(self.metrics_file)

    def rewind(self, step: int) -> None:
        """Take away the rows and samples after ``step``: the run goes on from there and makes them again."""
        for file in (self.metrics_file, self.samples_file):
            if file.is_file():
                rows = [row for row in _rows(file) if row["step"] <= step]
                write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    # Not splitlines(): a sample may hold other characters that it takes for the end of a line.
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
