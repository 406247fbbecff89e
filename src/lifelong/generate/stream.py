"""Text from tokens as they come, never half a character, and never a part of what ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from lifelong.tokens.base import Tokenizer

_REPLACEMENT = "\ufffd"


class TextStream:
    """Collects the tokens of one text and passes on what they spell, whole characters at a time.

    A token of a byte-level vocabulary may end inside a character. Such tokens wait until the character is complete, so
    the pieces joined are exactly the tokenizer's decoding of all tokens at once.

    Args:
        tokenizer: spells the tokens.
        on_text: called with every piece.
        stop: strings that end the text, wherever tokens begin and end. None of them is part of it: what could be the
            beginning of one is passed on only when it is not. Of several, the one that is complete first counts.

    Raises:
        LifelongError: a string is empty.
    """

    def __init__(
        self, tokenizer: Tokenizer, on_text: Callable[[str], None] | None = None, stop: Sequence[str] = ()
    ) -> None:
        if not all(stop):
            raise LifelongError("an empty text cannot end a text", fix="Leave the empty --stop out.")
        self._tokenizer, self._on_text, self._stop = tokenizer, on_text, tuple(stop)
        self._pieces: list[str] = []
        self._waiting: list[int] = []
        self._before: list[int] = []  # the last tokens that spelled something: some vocabularies drop a first space
        self._held = ""  # the beginning of a string that would end the text
        self.stopped = False

    def add(self, token: int) -> bool:
        """Take one more token; pass on its text unless a character is still open. Returns whether the text ends here.

        Tokens after that are an error of the caller's.
        """
        assert not self.stopped
        self._waiting.append(token)
        text = self._new_text()
        if not text.endswith(_REPLACEMENT):
            self._take(text)
        return self.stopped

    def finish(self) -> str:
        """Return the whole text; a character that never became complete ends it as U+FFFD."""
        if self._waiting and not self.stopped:
            self._take(self._new_text())
        if not self.stopped:
            self._emit(self._held)
            self._held = ""
        return "".join(self._pieces)

    def _new_text(self) -> str:
        known = len(self._tokenizer.decode(self._before))
        return self._tokenizer.decode(self._before + self._waiting)[known:]

    def _take(self, text: str) -> None:
        self._before = self._waiting if text else self._before + self._waiting
        self._waiting = []
        text = self._held + text
        ends = [(start + len(word), start) for word in self._stop if (start := text.find(word)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            self._emit(text[: min(ends)[1]])
            return
        held = max((_overlap(text, word) for word in self._stop), default=0)
        self._held = text[len(text) - held :]
        self._emit(text[: len(text) - held])

    def _emit(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_text is not None:
                self._on_text(text)


def _overlap(text: str, word: str) -> int:
    """Return how many characters at the end of a text are the beginning of a word, not all of it."""
    longest = min(len(text), len(word) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(word[:size])), 0)
