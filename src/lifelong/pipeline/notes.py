"""What a pipeline notes about its stages, and from that: whether one has to run, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import read_json, write_json

NOTES = "pipeline.json"
_UNSET = "default"  # settings are noted without those that have their default
DONE, RUNNING, REDO = "done", "running", "redo"


@dataclass
class Record:
    """One stage: how far it is, what its result follows from, and what came out."""

    status: str
    inputs: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Notes:
    """``pipeline.json``: a record for each stage, replaced as a whole whenever one begins or ends."""

    def __init__(self, home: Path) -> None:
        self.file = home / NOTES
        raw = read_json(self.file) if self.file.is_file() else {}
        try:
            self._records = {name: Record(**record) for name, record in raw.get("stages", {}).items()}
        except (AttributeError, TypeError):
            raise LifelongError(
                "this is not what a pipeline notes", where=str(self.file), fix="Move it away; stages are then redone."
            ) from None

    def get(self, stage: str) -> Record | None:
        """Return the record of a stage; None where it never began."""
        return self._records.get(stage)

    def done(self, stage: str) -> dict[str, Any] | None:
        """Return the result of a stage that has ended, else None."""
        record = self.get(stage)
        return record.result if record is not None and record.status == DONE else None

    def begin(self, stage: str, inputs: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Note that a stage runs now; ``facts`` are what is needed to go on with it after a kill."""
        self._put(stage, Record(RUNNING, dict(inputs), dict(facts)))

    def finish(self, stage: str, inputs: Mapping[str, Any], result: Mapping[str, Any], began: float) -> None:
        """Note what came out of a stage that began at ``began`` (of `time.perf_counter`)."""
        self._put(stage, Record(DONE, dict(inputs), dict(result), round(time.perf_counter() - began, 2)))

    def ask_again(self, stage: str) -> None:
        """Note that a stage is to run again, whatever is there."""
        self._put(stage, Record(REDO))

    def _put(self, stage: str, record: Record) -> None:
        self._records[stage] = record
        write_json(self.file, {"format": 1, "stages": {name: vars(record) for name, record in self._records.items()}})


def reason_to_run(record: Record | None, inputs: Mapping[str, Any]) -> str | None:
    """Return why a stage has to run; None where what it noted fits what there is now."""
    if record is None:
        return "not done yet"
    if record.status == REDO:
        return "asked for again"
    changes = _differences(record.inputs, inputs)
    if record.status == RUNNING:
        return "it was interrupted" + (f", and {changes}" if changes else "")
    return changes


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    changed = []
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            flat_old, flat_new = _flat(old), _flat(new)
            keys = dict.fromkeys((*flat_old, *flat_new))
            unset = _UNSET if name == "settings" else "none"
            pairs = [(key, flat_old.get(key, unset), flat_new.get(key, unset)) for key in keys]
            parts = [f"{key}: {_spell(was)} before, {_spell(value)} now" for key, was, value in pairs if was != value]
            changed.append(f"other {name} ({'; '.join(parts)})")
        else:
            changed.append(f"other {name}")
    return ", ".join(changed) or None


def _spell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
