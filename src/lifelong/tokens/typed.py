"""Text as it is typed, before it is encoded: what in it must not reach the vocabulary's own model."""

from __future__ import annotations


def cut_apart(text: str, spellings: tuple[str, ...]) -> list[str]:
    """Cut a text behind the first character of each spelling in it, so that none is left whole."""
    parts = [text]
    for spelling in spellings:
        found: list[str] = []
        for part in parts:
            first, *rest = part.split(spelling)
            for after in rest:
                found.append(first + spelling[0])
                first = spelling[1:] + after
            found.append(first)
        parts = found
    return parts


def is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
