"""What a SentencePiece model file says of itself.

The file is a protocol buffer (``sentencepiece_model.proto``); the few fields needed are read from the wire format
directly, because the ``sentencepiece`` package brings no reader for them and ``protobuf`` would be one more dependency.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lifelong.errors import LifelongError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "\u2581"  # how the library writes a space in pieces
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary, and where the file holds its score and type (-1 where it leaves them out)."""

    text: str
    score: float
    type: int
    score_at: int
    type_at: int


@dataclass(slots=True)
class SpmModel:
    """The vocabulary of a model, and how it was asked to cut and to normalise."""

    pieces: list[Piece] = field(default_factory=list)
    model_type: int = 1  # unigram 1, bpe 2, word 3, char 4
    byte_fallback: bool = False
    space_behind: bool = False
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


def read_spm(data: bytes, where: str) -> SpmModel:
    """Read a model file.

    Raises:
        LifelongError: it is not one.
    """
    model = SpmModel()
    try:
        for number, value, start in _fields(data, 0, len(data)):
            if number == 1:
                model.pieces.append(_piece(data, start, start + len(value)))
            elif number == 2:
                facts = {number: found for number, found, _ in _fields(value, 0, len(value))}
                model.model_type = int(facts.get(3, 1))
                model.byte_fallback, model.space_behind = bool(facts.get(35, 0)), bool(facts.get(24, 0))
            elif number == 3:
                facts = {number: found for number, found, _ in _fields(value, 0, len(value))}
                model.charsmap = bytes(facts.get(2, b""))
                model.add_dummy_prefix, model.remove_extra_whitespaces = bool(facts.get(3, 1)), bool(facts.get(4, 1))
                model.escape_whitespaces = bool(facts.get(5, 1))
    except (IndexError, ValueError, TypeError, struct.error):
        model.pieces.clear()
    if not model.pieces:
        raise LifelongError("not a SentencePiece model", where=where, fix="Give the spm.model that its trainer wrote.")
    return model


def _piece(data: bytes, start: int, stop: int) -> Piece:
    text, score, kind, score_at, type_at = "", 0.0, NORMAL, -1, -1
    for number, value, at in _fields(data, start, stop):
        if number == 1:
            text = bytes(value).decode("utf-8")
        elif number == 2:
            score, score_at = struct.unpack("<f", value)[0], at
        elif number == 3:
            kind, type_at = int(value), at
    return Piece(text, score, kind, score_at, type_at)


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, Any, int]]:
    """Yield number, value (int, or bytes) and the position of the value, for each field of a message."""
    while at < stop:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value, start
            continue
        if wire == _BYTES:
            length, start = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        at = start + length
        if at > stop:
            raise ValueError("the field is cut short")
        yield number, data[start:at], start


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("no number ends here")


def make_control(data: bytes, pieces: list[Piece]) -> bytes:
    """Return the model file with user-defined pieces turned into control pieces, which no text can spell."""
    changed = bytearray(data)
    for piece in pieces:
        assert piece.type == USER_DEFINED
        changed[piece.type_at] = CONTROL
    return bytes(changed)


def round_scores(data: bytes) -> bytes:
    """Return the model file with scores rounded to 1/64, so that their sums are exact in 32-bit floats up to 2^18.

    A run of one character has many cuttings of equal score. The library adds in 32 bits, where rounding picks one of
    them, and `tokenizers` in 64: their ids differed in 0.5% of the lines of a manual. With exact sums they agree.
    """
    changed = bytearray(data)
    for piece in read_spm(data, "the trained model").pieces:
        if piece.score_at >= 0:
            changed[piece.score_at : piece.score_at + 4] = struct.pack("<f", round(piece.score * 64) / 64)
    return bytes(changed)
