"""Text from tokens as they come, never half a character."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifelong.tokens.base import Tokenizer

_REPLACEMENT = "\ufffd"


class TextStream:
    """Collects the tokens of one text and passes on what they spell, whole characters at a time.

    A token of a byte-level vocabulary may end inside a character. Such tokens wait until the character is complete, so
    the pieces joined are exactly the tokenizer's decoding of all tokens at once.
    """

    def __init__(self, tokenizer: Tokenizer, on_text: Callable[[str], None] | None = None) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._pieces: list[str] = []
        self._waiting: list[int] = []
        self._before: list[int] = []  # the last tokens that spelled something: some vocabularies drop a first space

    def add(self, token: int) -> None:
        """Take one more token; pass on its text unless a character is still open."""
        self._waiting.append(token)
        text = self._new_text()
        if not text.endswith(_REPLACEMENT):
            self._emit(text)

    def finish(self) -> str:
        """Return the whole text; a character that never became complete ends it as U+FFFD."""
        if self._waiting:
            self._emit(self._new_text())
        return "".join(self._pieces)

    def _new_text(self) -> str:
        known = len(self._tokenizer.decode(self._before))
        return self._tokenizer.decode(self._before + self._waiting)[known:]

    def _emit(self, text: str) -> None:
        self._before = self._waiting if text else self._before + self._waiting
        self._waiting = []
        if text:
            self._pieces.append(text)
            if self._on_text is not None:
                self._on_text(text)
