"""Primers: dialogues in one text file, with a line between them that marks where the next one begins."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifelong.text.document import BadInput, Document
from lifelong.text.readers.opening import ROW_LIMIT, text_chunks
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile


def read_primer(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    r"""Yield the dialogues of a file, without the line ends around them; empty ones are dropped and counted.

    The delimiter (by default ``\n\n<dialogue>\n\n``) may also stand at the file's beginning or end. Line ends may be
    CRLF.
    """
    head, core, _ = _parts(file.source.delimiter)
    line, found, empty = 1 - len(head), 0, 0  # the first block begins with line ends that are not in the file
    for block in _blocks(file):
        text = block.strip("\n")
        if text.strip():
            file.notes["empty blocks dropped"] += empty  # not what stands before the first dialogue, or after the last
            found, empty = found + 1, 0
            start = line + len(block) - len(block.lstrip("\n"))
            yield Document(text + "\n", str(file.path), file.name, "text", weight=file.weight, line=start)
        elif found:
            empty += 1
        line += block.count("\n") + (head + core).count("\n")
    if empty > 1:
        file.notes["empty blocks dropped"] += empty - 1


def _parts(delimiter: str) -> tuple[str, str, str]:
    """Return the line ends before a delimiter, its core, and the line ends after it."""
    delimiter = delimiter.replace("\r\n", "\n")
    core = delimiter.strip("\n")
    if not core:
        return "", delimiter, ""
    head, _, tail = delimiter.partition(core)
    return head, core, tail


def _blocks(file: SourceFile) -> Iterator[str]:
    """Yield what stands between delimiters; the line ends after a delimiter go to the block that follows."""
    head, core, tail = _parts(file.source.delimiter)
    delimiter = head + core + tail  # its tail may be the next one's head
    buffer, searched = head, 0
    for chunk in _lf_chunks(file, tail):
        buffer += chunk
        start = 0
        while (at := buffer.find(delimiter, max(start, searched))) >= 0:
            yield buffer[start:at]
            start = at + len(head + core)
            searched = 0
        buffer = buffer[start:]
        searched = max(0, len(buffer) - len(delimiter))
        if len(buffer) > ROW_LIMIT:
            raise BadInput(
                "too-long-row",
                f"no delimiter {delimiter!r} in {ROW_LIMIT >> 20} MB of text",
                where=str(file.path),
                fix="Give the source the delimiter that the file uses.",
                fatal=True,
            )
    yield buffer


def _lf_chunks(file: SourceFile, end: str) -> Iterator[str]:
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    for chunk in text_chunks(file):
        yield ends.decode(chunk)
    yield ends.decode("", final=True) + end
