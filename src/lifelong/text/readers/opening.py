"""Files as bytes and as text, a piece at a time, with a line for everything that is wrong."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lifelong.text.document import BadInput
from lifelong.text.readers.packed import CHUNK, decompressed, recoded

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

ROW_LIMIT = 64 << 20  # bytes: no honest row is longer, and one that is must not exhaust memory
_BOM = b"\xef\xbb\xbf"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextlib.contextmanager
def open_bytes(file: SourceFile, *, as_text: bool = True) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed; as text also recoded from the source's encoding to UTF-8.

    Raises:
        BadInput: ``unreadable``; while reading ``bad-compression``, ``too-compressed`` or ``not-utf8``.
    """
    where, suffix = str(file.path), file.path.suffix.lower()
    try:
        with contextlib.ExitStack() as stack:
            stream: BinaryIO = stack.enter_context(file.path.open("rb"))
            stream = decompressed(stream, suffix, where)
            encoding = file.source.encoding
            if as_text and encoding and codecs.lookup(encoding).name != "utf-8":
                stream = recoded(stream, encoding, where)
            yield stream
    except OSError as error:
        raise unreadable(error, where) from error


def unreadable(error: OSError, where: str) -> BadInput:
    """Return the problem of a file that the system refuses to read."""
    return BadInput("unreadable", f"cannot be read: {error.strerror or error}", where=where, fatal=True)


def read_whole(file: SourceFile, *, as_text: bool = True) -> bytes:
    """Return a file that must be parsed whole; one beyond the limit raises BadInput ``too-long-row``."""
    parts: list[bytes] = []
    size = 0
    with open_bytes(file, as_text=as_text) as stream:
        while data := stream.read(CHUNK):
            parts.append(data)
            size += len(data)
            check_size(size, file.path)
    return b"".join(parts)


def read_text(file: SourceFile) -> str:
    """Return the text of a file that must be parsed whole; raises what `read_whole` and `text_chunks` raise."""
    parts: list[str] = []
    size = 0
    for chunk in text_chunks(file):
        parts.append(chunk)
        size += len(chunk)
        check_size(size, file.path)
    return "".join(parts)


def check_size(size: int, path: Path) -> None:
    """Raise BadInput ``too-long-row`` for a size beyond the limit."""
    if size > ROW_LIMIT:
        what = f"a file of this kind may hold at most {ROW_LIMIT >> 20} MB"
        raise BadInput("too-long-row", what, where=str(path), fatal=True)


def text_chunks(file: SourceFile) -> Iterator[str]:
    """Yield a file's text in chunks of at most 256 kB, without a byte order mark.

    Raises:
        BadInput: ``binary`` or ``not-utf8``, with the line.
    """
    decoder, line, first = codecs.getincrementaldecoder("utf-8")(), 1, True
    with open_bytes(file) as stream:
        while True:
            data = stream.read(CHUNK)
            if first:
                check_start(data, file.path)
                data = data.removeprefix(_BOM)
                first = False
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise not_utf8(error, file.path, line) from None
            if "\0" in text:
                raise binary(file.path)
            if text:
                yield text
            if not data:
                return
            line += text.count("\n")


def check_start(data: bytes, path: Path) -> None:
    """Raise BadInput ``not-utf8`` where the first bytes are another encoding's byte order mark."""
    if data.startswith(_UTF16):
        raise BadInput(
            "not-utf8",
            "the text is UTF-16, not UTF-8 (it starts with a byte order mark)",
            where=f"{path}:1",
            fix="Give the source the encoding utf-16, or convert it: " + _iconv(path, "utf-16"),
            fatal=True,
        )


def decode(data: bytes, path: Path, line: int) -> str:
    """Decode one row of UTF-8; raises BadInput ``not-utf8`` with the line and the byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(error, path, line) from None


def not_utf8(error: UnicodeDecodeError, path: Path, first_line: int) -> BadInput:
    """Return the problem of bytes that are not UTF-8; ``first_line`` is the line on which the bytes begin."""
    data = error.object
    line = first_line + data.count(b"\n", 0, error.start)
    return BadInput(
        "not-utf8",
        f"the text is not UTF-8 (byte 0x{data[error.start]:02x})",
        where=f"{path}:{line}",
        fix="Give the source its encoding (such as cp1252), or convert it: " + _iconv(path, "cp1252"),
        fatal=True,
    )


def binary(path: Path) -> BadInput:
    """Return the problem of a file with NUL bytes."""
    return BadInput(
        "binary",
        "the file is binary (it holds a NUL byte), not text",
        where=str(path),
        fix="Leave it out, or convert it to UTF-8 text.",
        fatal=True,
    )


def _iconv(path: Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t utf-8 {path.name} > {path.stem}.utf8{path.suffix}"
