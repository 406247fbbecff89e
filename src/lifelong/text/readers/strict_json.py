"""The standard library's JSON decoder, strict where it is not: what it should not have let pass is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from lifelong.text.document import BadInput

MAX_DEPTH = 100
_SPACE = re.compile(r"[ \t\r\n]*")
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class Parser:
    """The standard library's JSON decoder, with a note of what it should not have let pass."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.noted: list[tuple[str, str]] = []  # rule and what
        self.decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_float=self._float
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self.noted.append(("duplicate-key", f"the key {_quoted(twice)} is given twice"))
        return value

    def _constant(self, name: str) -> float:
        self.noted.append(("bad-number", f"{name} is not JSON"))
        return 0.0

    def _float(self, digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            self.noted.append(("bad-number", f"the number {digits[:20]} is too large"))
        return number

    def raw(self, text: str, at: int) -> tuple[Any, int]:
        """Parse the value at a place of a text; return it and its end."""
        self.noted.clear()
        return self.decoder.raw_decode(text, at)

    def parse(self, text: str, line: int) -> Any:
        """Parse one line of JSON lines; raises BadInput with file, line, column and key."""
        where = f"{self.where}:{line}"
        try:
            value, end = self.raw(text, 0)
        except json.JSONDecodeError as error:
            key = self.key_before(text, 0, error.pos)
            what = f"not valid JSON: {error.msg}{key} (column {error.pos + 1})"
            raise BadInput("bad-json", what, where=where) from None
        except (RecursionError, ValueError) as error:
            raise self.refuse(error, where) from None
        if end < len(text) and (rest := _SPACE.match(text, end)) and rest.end() < len(text):
            column = rest.end() + 1
            what = f"not valid JSON: something follows the row (column {column})"
            raise BadInput("bad-json", what, where=where, fix="Write one row a line.")
        if fault := self.fault(value, text, 0, end, where):
            raise fault
        return value

    def refuse(self, error: Exception, where: str, *, fatal: bool = False) -> BadInput:
        """Return the problem of what the decoder gives up on: endless nesting, endless digits."""
        if isinstance(error, RecursionError):
            return BadInput("too-deep", "not usable JSON: nested too deeply", where=where, fatal=fatal)
        return BadInput("bad-number", "not usable JSON: a number has too many digits", where=where, fatal=fatal)

    def fault(self, value: Any, text: str, start: int, end: int, where: str) -> BadInput | None:
        """Return what is wrong with a parsed value beside its syntax, or None."""
        if self.noted:
            rule, what = self.noted[0]
            return BadInput(rule, f"not usable JSON: {what}", where=where)
        brackets = text.count("[", start, end) + text.count("{", start, end)
        if brackets > MAX_DEPTH and _too_deep(value):
            return BadInput(
                "too-deep", f"not usable JSON: nested too deeply (more than {MAX_DEPTH} levels)", where=where
            )
        if _HALF.search(text, start, end) and (key := _half_character(value)) is not None:
            what = f"{key or 'the value'} holds half of a surrogate pair, which is not Unicode text"
            return BadInput("lone-surrogate", what, where=where)
        return None

    @staticmethod
    def key_before(text: str, start: int, end: int) -> str:
        """Return the last key before a place, as messages name it."""
        keys = _KEY.findall(text[max(start, end - 2000) : end])
        return f" near the key {_quoted(keys[-1])}" if keys else ""


def _quoted(key: str) -> str:
    return repr(key if len(key) <= 60 else key[:57] + "...")


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _half_character(value: Any, path: str = "") -> str | None:
    """Return the path of a string (or key) that UTF-8 cannot hold, or None; the nesting is known to be small."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return path
        return None
    if isinstance(value, dict):
        for key, item in value.items():
            if _half_character(key) is not None:
                return "a key"
            if (found := _half_character(item, f"{path}.{key}" if path else str(key))) is not None:
                return found
    if isinstance(value, list):
        for number, item in enumerate(value, start=1):
            if (found := _half_character(item, f"{path}[{number}]")) is not None:
                return found
    return None
