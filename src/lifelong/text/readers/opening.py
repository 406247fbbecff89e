"""Files as bytes and as text: decompressed, in UTF-8, a piece at a time, with a line for everything that is wrong."""

from __future__ import annotations

import codecs
import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lifelong.text.document import BadInput

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

ROW_LIMIT = 64 << 20  # bytes: no honest row is longer, and one that is must not exhaust memory
_CHUNK = 1 << 18
# A compressed file is refused once it has grown beyond both: text shrinks to a tenth, a bomb to a thousandth.
_BOMB_BYTES, _BOMB_RATIO = 32 << 20, 250
# zstd packs 128 kB into 4 bytes at worst, so that this much input grows to at most 32 MB at once.
_ZSTD_PIECE = 1 << 10
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
            if suffix == ".gz":
                stream = _buffered(_Gzip(stream, where))
            elif suffix == ".zst":
                stream = _buffered(_Zstd(stream, where))
            encoding = file.source.encoding
            if as_text and encoding and codecs.lookup(encoding).name != "utf-8":
                stream = _buffered(_Recoded(stream, encoding, where))
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
        while data := stream.read(_CHUNK):
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
            data = stream.read(_CHUNK)
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


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(raw, _CHUNK)


class _Stream(io.RawIOBase):
    """Bytes made from another stream, a piece at a time."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self.stream, self.where = stream, where
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self.ready:
            piece = self.piece()
            if piece is None:
                return 0
            self.ready = memoryview(piece)
        size = min(len(buffer), len(self.ready))
        buffer[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size

    def piece(self) -> bytes | None:
        """Return more bytes, or None at the end."""
        raise NotImplementedError


class _Decompressed(_Stream):
    def __init__(self, stream: BinaryIO, where: str) -> None:
        super().__init__(stream, where)
        self.taken = self.given = 0

    def count(self, taken: int, given: int) -> None:
        self.taken += taken
        self.given += given
        if self.given > _BOMB_BYTES and self.given > _BOMB_RATIO * self.taken:
            raise BadInput(
                "too-compressed",
                f"the file grows more than {_BOMB_RATIO} times when it is decompressed",
                where=self.where,
                fix="Text does not shrink that much. If you trust it, decompress it yourself.",
                fatal=True,
            )

    def broken(self, why: str) -> BadInput:
        return BadInput(
            "bad-compression",
            f"the compressed data is damaged: {why}",
            where=self.where,
            fix="Fetch or make the file again.",
            fatal=True,
        )


class _Gzip(_Decompressed):
    """Members of gzip one after another, as gzip itself writes and reads them; what is cut off is refused."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        super().__init__(stream, where)
        self.member = zlib.decompressobj(31)  # 31: gzip's header and checksum
        self.input, self.begun, self.members = b"", False, 0

    def piece(self) -> bytes | None:
        if self.member.eof:
            self.input, self.begun = self.member.unused_data, False
            self.member, self.members = zlib.decompressobj(31), self.members + 1
        taken = 0
        if not self.input:
            self.input = self.stream.read(_CHUNK)
            taken = len(self.input)
        if self.members and not self.begun:
            self.input = self.input.lstrip(b"\0")  # padding is allowed between members
        if not self.input and taken:
            return b""
        if not self.input:
            if self.begun or not self.members:
                raise self.broken("it ends in the middle")
            return None
        self.begun = True
        try:
            output = self.member.decompress(self.input, _CHUNK)
        except zlib.error as error:
            raise self.broken(str(error)) from None
        self.input = self.member.unconsumed_tail
        self.count(taken, len(output))
        return output


class _Zstd(_Decompressed):
    """Frames of zstd one after another; what is cut off is refused."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        import zstandard

        super().__init__(stream, where)
        self.error = zstandard.ZstdError
        self.library = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self.frame = self.library.decompressobj()
        self.input, self.begun, self.frames = memoryview(b""), False, 0

    def piece(self) -> bytes | None:
        if self.frame.eof:
            if rest := self.frame.unused_data:
                self.input = memoryview(rest + bytes(self.input))
            self.frame, self.begun, self.frames = self.library.decompressobj(), False, self.frames + 1
        if not self.input:
            self.input = memoryview(self.stream.read(_CHUNK))
            if not self.input:
                if self.begun or not self.frames:
                    raise self.broken("it ends in the middle")
                return None
        piece, self.input = self.input[:_ZSTD_PIECE], self.input[_ZSTD_PIECE:]
        self.begun = True
        try:
            output = self.frame.decompress(piece)
        except self.error as error:
            raise self.broken(str(error)) from None
        self.count(len(piece), len(output))
        return output


class _Recoded(_Stream):
    """Text of another encoding as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str, where: str) -> None:
        super().__init__(stream, where)
        self.encoding, self.line = encoding, 1
        self.decoder = codecs.getincrementaldecoder(encoding)()
        self.ended = False

    def piece(self) -> bytes | None:
        if self.ended:
            return None
        data = self.stream.read(_CHUNK)
        self.ended = not data
        try:
            text = self.decoder.decode(data, final=not data)
            self.line += text.count("\n")
            return text.encode("utf-8")
        except UnicodeError as error:
            at = f" (byte 0x{error.object[error.start]:02x})" if isinstance(error, UnicodeDecodeError) else ""
            line = self.line
            if isinstance(error, UnicodeDecodeError):
                line += error.object[: error.start].decode(self.encoding, "ignore").count("\n")
            raise BadInput(
                "not-utf8",
                f"the text is not {self.encoding}{at}",
                where=f"{self.where}:{line}",
                fix="Give the source another encoding, or leave it out for UTF-8.",
                fatal=True,
            ) from None
