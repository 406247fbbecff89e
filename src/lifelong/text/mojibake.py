"""Mojibake: text in UTF-8 that was once read as something else, and what it should have been."""

from __future__ import annotations

from functools import cache
from typing import Any


def repair(line: str) -> str:
    """Return a line with its mojibake repaired (by ftfy), or as it is where there is none.

    A repair turns two or three characters into one. Where it would leave most of the characters outside ASCII as they
    are, it is more likely that they are meant: a table of accented letters, say.
    """
    if line.isascii() or not _ftfy().badness.is_bad(line):
        return line
    fixed: str = _ftfy().fix_encoding(line)
    if 4 * _not_ascii(fixed) > 3 * _not_ascii(line) or len(fixed.splitlines()) > 1:  # U+0085 may come out of it
        return line
    return fixed


def _not_ascii(text: str) -> int:
    return sum(character > "\x7f" for character in text)


@cache
def _ftfy() -> Any:
    import ftfy
    import ftfy.badness

    return ftfy
