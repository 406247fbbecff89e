"""Whether what a model directory recorded of itself is still there: files at the root, contents in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import sha256_file

Files = dict[str, dict[str, Any]]  # path → {"sha256", "bytes"}
Contents = Callable[[str], Path]  # where the content of a SHA-256 lies
_MEMORY = "lifelong/"  # below it lies what a model knows of itself


def lost(root: Path, files: Files, contents: Contents) -> list[str]:
    """Return the files of a model's memory that are gone from the root while their contents are still stored."""
    return [
        name
        for name, facts in files.items()
        if name.startswith(_MEMORY) and not (root / name).is_file() and contents(facts["sha256"]).is_file()
    ]


def check_memory(root: Path, files: Files) -> None:
    """Raise LifelongError where a file of a model's memory is gone, or has another size than was recorded."""
    for name, facts in files.items():
        path = root / name
        if name.startswith(_MEMORY) and (not path.is_file() or path.stat().st_size != facts["bytes"]):
            what = "is not as it was recorded" if path.is_file() else "is gone, and so is its stored content"
            raise LifelongError(
                f"a file that the model's memory rests on {what}",
                where=str(path),
                fix="Put it back as it was; one that was changed can be deleted, and is laid there again. "
                "`lifelong rollback MODEL --to STATE` goes to another state.",
            )


def check_contents(root: Path, number: int, files: Files, present: Files, contents: Contents) -> None:
    """Raise LifelongError where contents that state ``number`` needs, and the ``present`` one lacks, are not whole."""
    for name, facts in files.items():
        stored = contents(facts["sha256"])
        if present.get(name) == facts and (root / name).is_file():
            continue
        if not stored.is_file() or sha256_file(stored) != facts["sha256"]:
            raise LifelongError(
                f"state {number} cannot be brought back: the stored content of {name} is "
                f"{'altered' if stored.is_file() else 'gone'}",
                where=str(stored),
                fix="Nothing was changed. Bring that file back from a copy, or go to another state (--to).",
            )


def damage(root: Path, files: Files, contents: Contents) -> list[str]:
    """Return what is wrong with a state: altered or missing contents, or other root files."""
    found = []
    for name, facts in files.items():
        stored, shown = contents(facts["sha256"]), root / name
        if not stored.is_file() or sha256_file(stored) != facts["sha256"]:
            found.append(f"{name}: the stored content is missing or altered")
        elif not shown.is_file() or sha256_file(shown) != facts["sha256"]:
            found.append(f"{name}: the file differs from the recorded state")
    return found


def read_event(line: str, where: str) -> dict[str, Any]:
    """Return an event of the history.

    Raises:
        LifelongError: the line is none.
    """
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not {"event", "generation"} <= event.keys():
        raise LifelongError(
            "this line is no event of a history",
            where=where,
            fix="Delete the file: the next command lays the recorded one there again.",
        )
    return event
