"""Passages of a store that stand before a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Sources:
    """A store, opened for questions."""

    def __init__(self, place: Path) -> None:
        raise NotImplementedError

    def prompt(
        self, messages: Sequence[dict[str, str]], passages: int, room: int
    ) -> tuple[list[int], list[dict[str, Any]]]:
        """Return."""
        raise NotImplementedError
