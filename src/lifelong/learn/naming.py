"""Sources as users name them: by a path that is relative to where they are now, or by a text's name.

A model's history and memory have sources as they were given. What was given relative to a folder is found from another
one, too: every lesson and training records the folder that it was called in.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lifelong.model.store import FOLDER


class Asked:
    """A source that is asked for.

    Args:
        source: its name or path.
        history: events of the model directory.
        folder: the working directory that a relative path is meant from; default: the present one.
    """

    def __init__(self, source: str, history: Iterable[dict[str, Any]], folder: str | None = None) -> None:
        self.source = source
        self._path = _resolved(source, folder or "")
        self._lessons, self._trainings = list[tuple[Path, str]](), set[str]()
        for event in history:
            if place := event.get(FOLDER):
                self._lessons += [(Path(name), place) for name in event.get("sources", ())]
                self._trainings |= {place} if event["event"] == "train" else set()

    def covers(self, name: str) -> bool:
        """Whether a recorded name is the source, or a file below it."""
        return name == self.source or any(
            self._path == own or self._path in own.parents for own in self._meanings(name)
        )

    def is_below(self, name: str) -> bool:
        """Whether the source is a file below a recorded name."""
        return any(own in self._path.parents for own in self._meanings(name))

    def _meanings(self, name: str) -> list[Path]:
        path = Path(name)
        folders = {place for given, place in self._lessons if given == path or given in path.parents}
        return [_resolved(name, folder) for folder in sorted(folders or self._trainings or [""])]


def _resolved(name: str, folder: str) -> Path:
    return (Path(folder) / Path(name).expanduser()).resolve()
