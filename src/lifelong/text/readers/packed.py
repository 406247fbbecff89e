"""Streams that are not what lies on disk: decompressed, or recoded to UTF-8, a piece at a time in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from typing import BinaryIO

from lifelong.text.document import BadInput

CHUNK = 1 << 18
# A compressed file is refused once it has grown beyond both: text shrinks to a tenth, a bomb to a thousandth.
_BOMB_BYTES, _BOMB_RATIO = 32 << 20, 250
# zstd packs 128 kB into 4 bytes at worst, so that this much input grows to at most 32 MB at once.
_ZSTD_PIECE = 1 << 10


def decompressed(stream: BinaryIO, suffix: str, where: str) -> BinaryIO:
    """Return the content of a ``.gz`` or ``.zst``; any other stream as it is.

    Reading raises BadInput ``bad-compression`` or ``too-compressed``.
    """
    kinds = {".gz": _Gzip, ".zst": _Zstd}
    return io.BufferedReader(kinds[suffix](stream, where), CHUNK) if suffix in kinds else stream


def recoded(stream: BinaryIO, encoding: str, where: str) -> BinaryIO:
    """Return a text of another encoding as UTF-8; reading raises BadInput ``not-utf8``."""
    return io.BufferedReader(_Recoded(stream, encoding, where), CHUNK)


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
    """Members of gzip one after another; what is cut off is refused."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        super().__init__(stream, where)
        self.library = gzip.GzipFile(fileobj=stream, mode="rb")

    def piece(self) -> bytes | None:
        try:
            output = self.library.read1(CHUNK)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self.broken(str(error)) from None
        self.count(self.stream.tell() - self.taken, len(output))
        return output or None


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
            self.input = memoryview(self.stream.read(CHUNK))
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
        data = self.stream.read(CHUNK)
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
