"""What the page shows beside the chat: the history, the matrix, and curves of runs, as they are on disk now."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import Matrix
from lifelong.files import read_json
from lifelong.learn.ledger import in_force
from lifelong.model.store import ModelStore
from lifelong.train.folder import RUNS, RunFolder

_RUN = "run.json"
_FACTS = ("status", "steps", "epochs", "tokens", "learning_rate", "precision", "device")
_MOST = 4_000_000  # bytes of measurements that one answer holds
_SHOWN = ("event", "session", "domain", "generation", "accepted", "scale", "undone_session", "source", "examples")


class Board:
    """Reads a model directory, or one run; nothing is kept, so that what a lesson changes is seen.

    Args:
        place: a model directory, or a run's folder.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._is_run = (place / _RUN).is_file()
        # A run lies in the `runs` of its model directory; `best`, `final` and checkpoints lie in a run.
        self.name = place.resolve().name

    def state(self) -> dict[str, Any]:
        """Return the history, the matrix and the runs; None and nothing where there is none."""
        store = ModelStore.open(self.place)
        raw = store.state().get("matrix")
        kept = {event["generation"] for event in in_force(store)} if store.exists() else set()
        return {
            "name": self.name,
            "history": [_event(event, kept) for event in store.history()],
            "matrix": _matrix(Matrix.from_dict(raw)) if raw else None,
            "runs": [{"name": name, **self._facts(folder)} for name, folder in self._runs().items()],
        }

    def rows(self, name: str, start: int) -> dict[str, Any]:
        """Return what a run measured after byte ``start`` of its file, and where to go on.

        A run that was resumed has taken rows back, and its file can be shorter: then all rows come again.

        Raises:
            LifelongError: there is no such run.
        """
        folder = self._runs().get(name)
        if folder is None:
            raise LifelongError(f"no run '{name[:80]}' here")
        file = folder.metrics_file
        size = file.stat().st_size if file.is_file() else 0
        again = not 0 <= start <= size
        start = 0 if again else start
        data = b""
        if size > start:
            with file.open("rb") as handle:
                if start:  # rows that were taken back and made again may end elsewhere
                    handle.seek(start - 1)
                    if handle.read(1) != b"\n":
                        again, start = True, 0
                handle.seek(start)
                data = handle.read(_MOST)
        data = data[: data.rfind(b"\n") + 1]
        rows = [_finite(json.loads(line)) for line in data.split(b"\n") if line]
        return {"rows": rows, "next": start + len(data), "again": again, **self._facts(folder)}

    def _runs(self) -> dict[str, RunFolder]:
        places = [self.place] if self._is_run else sorted((self.place / RUNS).glob("*"))
        return {place.resolve().name: RunFolder(place) for place in places if (place / _RUN).is_file()}

    @staticmethod
    def _facts(folder: RunFolder) -> dict[str, Any]:
        facts = read_json(folder.path / _RUN)
        return {"facts": _finite({name: facts[name] for name in _FACTS if facts.get(name) is not None})}


def open_run(path: Path) -> Board:
    """Return the board of a run, or of a model directory with runs.

    Raises:
        LifelongError: there is no run.
    """
    if not path.exists():
        raise LifelongError(
            "no such folder", where=str(path), fix="Give a run folder, such as my-model/runs/0001-pretrain."
        )
    RunFolder.find(path)
    return Board(path)


def _event(event: dict[str, Any], kept: set[int]) -> dict[str, Any]:
    shown = {name: event[name] for name in _SHOWN if event.get(name) is not None}
    reasons = event.get("reasons", [])
    if "accepted" in event:
        shown["in_force"] = bool(event["accepted"]) and event.get("generation") in kept
    full = {**shown, "reasons": [str(reason) for reason in reasons], "bits": event.get("bits_per_byte")}
    found: dict[str, Any] = {name: _finite(value) for name, value in full.items()}
    return found


def _matrix(matrix: Matrix) -> dict[str, Any]:
    def cell(i: int, j: int) -> dict[str, Any]:
        taught = bool(i) and matrix.sessions[i] == matrix.domains[j]
        return {"value": matrix.bpb[i][j], "change": matrix.change(i, j), "taught": taught}

    rows = range(len(matrix.sessions))
    cells = [[cell(i, j) for j in range(len(matrix.domains))] for i in rows]
    sums = {"average": matrix.average, "backward transfer": matrix.bwt, "forward transfer": matrix.fwt}
    return {"domains": matrix.domains, "sessions": matrix.sessions, "cells": cells, "sums": sums, "notes": matrix.notes}


def _finite(value: Any) -> Any:
    """Return plain values with null in place of what is no number: JSON has no other way to say it."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
