"""Looking a GGUF file over before it is read: the reader of the `gguf` package believes every number in it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from lifelong.errors import LifelongError

# Of the specification (ggml/docs/gguf.md): the bytes of each kind of value.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
# Limits with room: Gemma's files have 1.4 million values in arrays, Llama 405B's 1,200 tensors.
_ITEMS, _KEYS, _TENSORS, _DIMENSIONS, _NAME = 4_000_000, 10_000, 100_000, 4, 65_536


class _Damaged(Exception):
    pass


def check_header(path: Path) -> None:
    """Read through keys and tensors, keeping nothing.

    Raises:
        LifelongError: the file is no GGUF file, is cut off, or its numbers cannot be true.
    """
    try:
        with path.open("rb") as file:
            _Header(file, path.stat().st_size).check()
    except _Damaged as error:
        raise LifelongError(
            f"this cannot be read as a GGUF file: {error}", where=str(path), fix="Get the file again."
        ) from None
    except OSError as error:
        raise LifelongError(f"the file cannot be read: {error.strerror}", where=str(path)) from None


class _Header:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._items = file, size, 0

    def check(self) -> None:
        if self._take(4) != b"GGUF":
            raise _Damaged("it does not begin with GGUF")
        version = self._number("<I")
        if version not in (2, 3):
            raise _Damaged(f"its version is {version}, not 2 or 3")
        tensors, keys = self._number("<Q"), self._number("<Q")
        if tensors > _TENSORS or keys > _KEYS:
            raise _Damaged(f"it says that it has {tensors:,} tensors and {keys:,} keys")
        for _ in range(keys):
            self._skip_string(_NAME)
            self._value(self._number("<I"))
        for _ in range(tensors):
            self._tensor()

    def _value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string(self._size)
        elif kind == _ARRAY:
            inner, count = self._number("<I"), self._number("<Q")
            self._items += count
            if self._items > _ITEMS:
                raise _Damaged(f"its lists have {self._items:,} values")
            if inner == _STRING:
                for _ in range(count):
                    self._skip_string(self._size)
            elif inner in _SIZES:
                self._skip(count * _SIZES[inner])
            else:
                raise _Damaged(f"a list of values of kind {inner}")
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise _Damaged(f"a value of kind {kind}, which there is not")

    def _tensor(self) -> None:
        self._skip_string(_NAME)
        dimensions = self._number("<I")
        if not 0 < dimensions <= _DIMENSIONS:
            raise _Damaged(f"a tensor of {dimensions} dimensions")
        elements = 1
        for _ in range(dimensions):
            elements *= self._number("<Q")
        # No format has more than 8 values in a byte.
        if not 0 < elements <= 8 * self._size:
            raise _Damaged(f"a tensor of {elements:,} values in a file of {self._size:,} bytes")
        self._skip(4 + 8)

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise _Damaged("it is cut off")
        return data

    def _skip(self, count: int) -> None:
        if self._file.tell() + count > self._size:
            raise _Damaged("it is cut off")
        self._file.seek(count, 1)

    def _skip_string(self, longest: int) -> None:
        length = self._number("<Q")
        if length > longest:
            raise _Damaged(f"a text of {length:,} bytes")
        self._skip(length)
