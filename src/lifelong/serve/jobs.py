"""Texts that are to be written, and what comes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lifelong.generate.sampling import Sampling
from lifelong.generate.slots import Finish


@dataclass(frozen=True)
class Token:
    """One token of a text, with what was asked about it; see `lifelong.generate.slots.Step`."""

    number: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


@dataclass
class Piece:
    """What is new of a text since the last piece.

    Attributes:
        text: what the tokens spell so far, whole characters.
        tokens: if their log-probabilities were asked for.
        finish: why the text ends here; None: it goes on.
        written: tokens that were written in all, at the end.
        experts: at the end, the weight of each expert.
        error: what went wrong, in place of an end.
    """

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: Finish | None = None
    written: int = 0
    experts: dict[str, float] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def last(self) -> bool:
        """Whether nothing follows."""
        return self.finish is not None or self.error is not None

    def joined(self, other: Piece) -> Piece:
        """Return both as one."""
        return Piece(
            self.text + other.text,
            self.tokens + other.tokens,
            other.finish,
            other.written,
            other.experts,
            other.error,
        )


@dataclass(eq=False)
class Job:
    """A text to write. ``view`` is of `Views.target`; the rest are arguments of `Slots.join`, and strings that end it.

    With ``whole`` there is one piece, at the end.
    """

    view: str
    ids: list[int]
    sampling: Sampling
    max_tokens: int
    seed: int | None = None
    sample: int = 0
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    whole: bool = False
    given_up: bool = False
    since: float = field(default_factory=time.monotonic)
    first: float | None = None  # seconds until its first token
