"""Make a text tidy without changing what it says, tell equal texts apart from new ones, and cut one long text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator

from lifelong.text.document import Document, join_messages

CUT_ABOVE = 8_000  # bytes: a lone text longer than this is cut, so that it can be split at all
PIECE = 4_000  # bytes of one piece
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MANY_BLANK_LINES = 2


def clean(document: Document) -> Document:
    """Return the document with LF line ends; text and Markdown also lose trailing spaces and long runs of blank lines.

    Inside Markdown's code fences, and in code, every other character stays.
    """
    if document.messages:
        messages = tuple({**message, "content": _line_ends(message["content"])} for message in document.messages)
        return dataclasses.replace(document, messages=messages, text=join_messages(messages))
    text = _line_ends(document.text)
    if document.kind != "code":
        text = _tidy(text, fences=document.kind == "markdown")
    return document if text == document.text else dataclasses.replace(document, text=text)


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _tidy(text: str, *, fences: bool) -> str:
    kept: list[str] = []
    fence, blank = "", 0
    for line in text.split("\n"):
        mark = _FENCE.match(line) if fences else None
        if fence:
            kept.append(line)
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
            continue
        if mark:
            fence = mark[1]
        line = line.rstrip()
        blank = 0 if line else blank + 1
        if blank <= _MANY_BLANK_LINES:
            kept.append(line)
    tidy = "\n".join(kept).strip("\n")
    return tidy + "\n" if tidy else ""


def content_hash(document: Document) -> str:
    """Return a hash that is equal for documents whose text differs in white space only."""
    if document.messages:
        words = json.dumps([[m["role"], " ".join(m["content"].split())] for m in document.messages])
    else:
        words = " ".join(document.text.split())
    return hashlib.blake2b(words.encode("utf-8"), digest_size=16).hexdigest()


def cut(document: Document) -> Iterator[Document]:
    """Cut a long text at blank lines into contiguous documents of about 4 kB, named ``name#0001`` and so on.

    Code is cut only where the next line starts at the margin; a paragraph is never torn, however long it is.
    Joining the pieces gives the text back.
    """
    parts = re.split(r"(?<=\n\n)(?=\S)" if document.kind == "code" else r"(?<=\n\n)(?=[^\n])", document.text)
    number, piece, size = 1, "", 0
    for part in parts:
        piece += part
        size += len(part.encode("utf-8"))
        if size >= PIECE:
            yield _piece(document, piece, number)
            number, piece, size = number + 1, "", 0
    if piece:
        yield _piece(document, piece, number)


def _piece(document: Document, text: str, number: int) -> Document:
    return dataclasses.replace(document, text=text, name=f"{document.name}#{number:04d}")
