"""Cut long texts into contiguous documents. Joining the pieces always gives the text back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

from lifelong.text.document import Document, join_messages

PIECE = 4_000  # bytes of one piece
_PIECE_NAME = re.compile(r"(.*)#(\d{4,})", re.DOTALL)
_HEADING = re.compile(r"#{1,6} |=+ \S.* =+$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def cut(document: Document, size: int = PIECE) -> Iterator[Document]:
    """Cut a long text at blank lines into contiguous documents of about ``size`` bytes, ``name#0001`` and so on.

    Code is cut only where the next line starts at the margin; a paragraph is never torn, however long it is.
    """
    parts = re.split(r"(?<=\n\n)(?=\S)" if document.kind == "code" else r"(?<=\n\n)(?=[^\n])", document.text)
    number, piece, held = 1, [], 0
    for part in parts:
        piece.append(part)
        held += len(part.encode("utf-8"))
        if held >= size:
            yield _piece(document, "".join(piece), number)
            number, piece, held = number + 1, [], 0
    if piece:
        yield _piece(document, "".join(piece), number)


def _piece(document: Document, text: str, number: int) -> Document:
    return dataclasses.replace(document, text=text, name=f"{document.name}#{number:04d}")


def piece_of(name: str) -> tuple[str, str]:
    """Return the name of the text that a piece was cut from, and its number; the number is empty for a whole text."""
    match = _PIECE_NAME.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def fit(document: Document, measure: Callable[[str], int], limit: int) -> list[Document]:
    """Return documents of at most ``limit`` by ``measure`` (tokens, say), in order.

    A text is cut before headings where it can be, else between paragraphs, lines, sentences, words, and at last
    characters: nothing is lost. A fenced block stays whole as long as it fits. A conversation keeps its first turns up
    to the last answer that fits (its measure is the sum over messages, with one more for the role and one for the end
    of each); where no answer fits, the list is empty.
    """
    if document.messages:
        return _fit_chat(document, measure, limit)
    if measure(document.text) <= limit:
        return [document]
    pieces = _pack(_blocks(document.text), measure, limit)
    return [_piece(document, piece, number) for number, piece in enumerate(pieces, start=1)]


def _fit_chat(document: Document, measure: Callable[[str], int], limit: int) -> list[Document]:
    messages = document.messages or ()
    held = kept = 0
    for number, message in enumerate(messages, start=1):
        held += measure(message["content"]) + 2
        if held > limit:
            break
        if message["role"] == "assistant":
            kept = number
    if kept == len(messages) or held <= limit:
        return [document]
    if not kept:
        return []
    return [dataclasses.replace(document, messages=messages[:kept], text=join_messages(messages[:kept]))]


def _blocks(text: str) -> list[str]:
    """Split at blank lines outside fences, each block with the blank lines after it."""
    blocks: list[str] = []
    block: list[str] = []
    fence, ended = "", False
    for line in re.split(r"(?<=\n)", text):
        mark = _FENCE.match(line)
        if ended and line.strip():
            blocks.append("".join(block))
            block, ended = [], False
        block.append(line)
        if fence:
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
        elif mark:
            fence = mark[1]
        elif not line.strip():
            ended = True
    if block:
        blocks.append("".join(block))
    return blocks


# From coarse to fine; each keeps what it splits by at the end of the part before.
_SPLITTERS: tuple[re.Pattern[str], ...] = (
    re.compile(r"(?<=\n)"),
    re.compile(r"(?<=[.!?] )"),
    re.compile(r"(?<=\s)(?=\S)"),
)


def _pack(parts: list[str], measure: Callable[[str], int], limit: int, level: int = 0) -> list[str]:
    """Join neighbours while they fit; tear what does not fit alone. Past half the limit, a heading begins a piece."""
    pieces: list[str] = []
    piece, held = "", 0
    for part in parts:
        size = measure(part)
        heading = level == 0 and _HEADING.match(part) is not None and held > limit // 2
        # Parts are mostly a little longer than their whole: tokens do not reach over from one to the next.
        if piece and (heading or size > limit or (held + size > limit and measure(piece + part) > limit)):
            pieces.append(piece)
            piece, held = "", 0
        if size > limit and len(part) > 1:
            *whole, part = _pack(_split(part, level), measure, limit, level + 1)
            pieces += whole
            size = measure(part)
        piece, held = piece + part, held + size
    return [*pieces, piece] if piece else pieces


def _split(part: str, level: int) -> list[str]:
    if level < len(_SPLITTERS):
        return [piece for piece in _SPLITTERS[level].split(part) if piece]
    half = max(1, len(part) // 2)
    return [part[:half], part[half:]]
