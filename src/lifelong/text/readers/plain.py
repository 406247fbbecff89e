"""Text, Markdown and code: one document a file; a large file is streamed as contiguous pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lifelong.text.document import Document
from lifelong.text.readers.facts import plain_facts
from lifelong.text.readers.opening import text_chunks
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

STREAM_ABOVE = 1 << 20  # characters: a longer text comes as pieces
PIECE = 4_000  # bytes of one piece, as `cleaning.cut` makes them
_LONGEST = 1 << 16  # characters: a paragraph beyond this is torn, so that memory stays bounded
# Blank lines, also such as hold white space. Possessive, and without a look at what follows, so that a megabyte of them
# is passed once and not once for each.
_BLANK_LINES = re.compile(r"\n(?:[ \t]*+\r?\n)++")
_WHITE = " \t\r\n"
_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n(.*?)(?:^)\1[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_FRONT_MATTER_LIMIT = 1 << 16


def read_plain(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    """Yield a file as one document, or in pieces of about 4 kB named ``name#0001`` where it is longer than 1 MB.

    Joining the pieces gives the text back. They are cut at blank lines; a paragraph beyond 64 kB is torn at a line
    end, at white space or, at worst, between two characters.
    """
    kind = file.container if file.container in ("markdown", "code") else "text"
    chunks = text_chunks(file)
    head, size = [], 0
    for chunk in chunks:
        head.append(chunk)
        size += len(chunk)
        if size > STREAM_ABOVE:
            break
    text = "".join(head)
    meta: dict[str, Any] = {}
    if kind == "markdown":
        text, meta = front_matter(text)
    if size > STREAM_ABOVE:
        for number, piece in enumerate(pieces(_chain(text, chunks), code=kind == "code"), start=1):
            name = f"{file.name}#{number:04d}"
            yield Document(piece, str(file.path), name, kind, weight=file.weight, meta=meta)
    elif text.strip():
        yield Document(text, str(file.path), file.name, kind, weight=file.weight, meta=meta)


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def pieces(chunks: Iterable[str], *, code: bool) -> Iterator[str]:
    """Cut a stream of text at blank lines into contiguous pieces of about 4 kB; joined they are the stream."""
    buffer, searched = "", 0
    for chunk in chunks:
        buffer += chunk
        start = 0
        end = len(buffer.rstrip(_WHITE))  # blank lines at the end may go on in the next chunk
        for found in _BLANK_LINES.finditer(buffer, searched, end):
            margin = not code or buffer[found.end()] not in _WHITE  # code: only before what stands at the margin
            if margin and _size(buffer, start, found.end()) >= PIECE:
                yield buffer[start : found.end()]
                start = found.end()
        while len(buffer) - start > _LONGEST:
            end = _tear(buffer, start)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
        searched = len(buffer.rstrip(_WHITE))
    if buffer:
        yield buffer


def _size(text: str, start: int, end: int) -> int:
    if end - start >= PIECE:
        return PIECE
    return len(text[start:end].encode("utf-8")) if (end - start) * 4 >= PIECE else 0


def _tear(text: str, start: int) -> int:
    """Return where to tear an endless paragraph: after the last line end, or white space, of its first 64 k."""
    limit = start + _LONGEST
    for mark in ("\n", " "):
        if (end := text.rfind(mark, start, limit)) >= 0:
            return end + 1
    blank = max((match.end() for match in re.finditer(r"\s", text[start:limit])), default=0)
    if blank:
        return start + blank
    return limit - 1 if text[limit - 1] == "\r" else limit


def front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """Split Markdown from the YAML (``---``) or TOML (``+++``) before it; what is not a mapping stays in the text."""
    found = _FRONT_MATTER.match(text[: _FRONT_MATTER_LIMIT + 64]) if text[:3] in ("---", "+++") else None
    if found is None:
        return text, {}
    try:
        facts = plain_facts(_parse(found[1], found[2]))
    except ValueError:
        return text, {}
    return text[found.end() :], facts


def _parse(mark: str, source: str) -> Any:
    if mark == "+++":
        import tomllib

        return tomllib.loads(source)
    import yaml

    try:
        return yaml.safe_load(source)
    except (yaml.YAMLError, RecursionError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(str(error)) from None
