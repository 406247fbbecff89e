"""Models that another program computes, as `write` and `ChatSession` take them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from lifelong.generate.slots import Engine


@dataclass(frozen=True)
class Reach:
    """How many tokens it reads; it goes on with what it read, and nothing else is asked."""

    max_seq_len: int
    causal: ClassVar[bool] = True

    def require_causal(self, doing: str) -> None:
        """Do nothing: it can do what ``doing`` names."""


@dataclass(frozen=True)
class Elsewhere:
    """A causal model in another program.

    Attributes:
        config: its context.
        open: returns what writes with it.
    """

    config: Reach
    open: Callable[[], AbstractContextManager[Engine]]
    experts: ClassVar[None] = None
    origin: ClassVar[None] = None
