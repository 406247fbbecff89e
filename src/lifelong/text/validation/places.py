"""How reports name a place in the user's files, and quote what stands there."""

from __future__ import annotations

from pathlib import Path

from lifelong.text.cutting import piece_of
from lifelong.text.document import Document
from lifelong.text.validation.secrets import redact

_SNIPPET = 60  # characters
_AROUND = 400  # characters in which secrets are masked before the snippet is cut out, so that no half of one is shown


def place_of(document: Document) -> str:
    """Return the file of a document, its row's line, or which piece of the file it is."""
    piece = piece_of(document.name)[1]
    return f"{document.place} (piece {piece})" if piece and document.line is None else document.place


def where(document: Document, offset: int) -> str:
    """Return ``file:line`` of a place in a document; of a row or a piece, what `place_of` says."""
    if document.line is not None or piece_of(document.name)[1]:
        return place_of(document)
    return f"{document.source}:{_lines_before(document) + 1 + document.text.count(chr(10), 0, offset)}"


def _lines_before(document: Document) -> int:
    """Return how many lines of front matter stand before a Markdown text in its file."""
    if document.kind != "markdown" or not document.meta:
        return 0
    try:
        whole = Path(document.source).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return 0
    at = whole.find(document.text[:_AROUND])
    return whole.count("\n", 0, at) if at > 0 else 0


def snippet(text: str, at: int = 0) -> str:
    """Return the words of a text from an offset on, in quotes, on one line, secrets masked."""
    start = max(0, at - _AROUND)
    masked = redact(text[start : at + _AROUND])
    if start or at:  # what was masked is shorter: find the place from behind
        behind = redact(text[at : at + _AROUND])
        masked = behind if masked.endswith(behind) else masked[-len(behind) :]
    shown = " ".join(masked.split())
    return repr(shown[:_SNIPPET] + ("…" if len(shown) > _SNIPPET else ""))
