"""JSON by the standard and no further, a row at a time: JSON lines, or one array of any length.

The standard library's parser does the parsing; what it lets pass (keys given twice, NaN, numbers beyond a float, half
characters, nesting without end) is refused here. One row is in memory at a time.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lifelong.text.document import BadInput
from lifelong.text.readers.opening import ROW_LIMIT, binary, check_start, decode, open_bytes, text_chunks
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

MAX_DEPTH = 100
# The line of a row (None for a file that is one object) and the row.
Row = tuple[int | None, Any]
_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_BOM = codecs.BOM_UTF8


def json_lines(file: SourceFile, report: OnProblem) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines; blank lines are passed over. A file that is an array is read as one.

    Raises:
        BadInput: ``binary``, ``unreadable`` and the like end the file; whatever is wrong with one line is reported,
            and reading goes on with the next.
    """
    parser = Parser(str(file.path))
    with open_bytes(file) as stream:
        first = True
        number = 0
        while line := stream.readline(ROW_LIMIT + 1):
            number += 1
            if b"\0" in line:
                raise binary(file.path)
            if first:
                check_start(line, file.path)
                line = line.removeprefix(_BOM)
            if len(line) > ROW_LIMIT:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(1 << 20)
                report(too_long(f"{file.path}:{number}"))
                continue
            start = _NOT_SPACE.search(line)
            if start is None:
                continue
            if first and start[0] == b"[" and not line.rstrip().endswith(b"]"):
                break  # an array spread over lines, whatever the suffix says
            first = False
            try:
                row = parser.parse(decode(line, file.path, number).strip(" \t\r\n"), number)
            except BadInput as problem:
                problem.fatal = False
                report(problem)
                continue
            yield number, row
        else:
            return
    yield from json_values(file, report)


def too_long(where: str) -> BadInput:
    """Return the problem of a row beyond the limit."""
    return BadInput(
        "too-long-row",
        f"the row is longer than {ROW_LIMIT >> 20} MB",
        where=where,
        fix="Is it one row? Split it into several.",
    )


def json_values(file: SourceFile, report: OnProblem) -> Iterator[Row]:
    """Yield the elements of an array, or the values of a file that holds one after another.

    A file that is one object has no line. After a fault of syntax nothing can be found any more: it is fatal. Any other
    fault costs its row only.
    """
    window = _Window(file)
    where = str(file.path)
    mark = window.skip_space()
    if not mark:
        raise BadInput("empty-file", "the file holds nothing but white space", where=where, fatal=True)
    if mark not in "[{":
        raise BadInput(
            "wrong-type",
            "a JSON file must hold an object or a list of objects",
            where=f"{where}:{window.line}",
            fatal=True,
        )
    if mark == "[":
        yield from _elements(window, report)
        return
    line, value, fault = window.value()
    more = window.skip_space()
    if fault:
        report(fault)
    else:
        yield (line if more else None), value
    while more:
        line, value, fault = window.value()
        if fault:
            report(fault)
        else:
            yield line, value
        more = window.skip_space()


def _elements(window: _Window, report: OnProblem) -> Iterator[Row]:
    window.advance(1)
    mark, row = window.skip_space(), 0
    while mark != "]":
        row += 1
        line, value, fault = window.value(f"row {row}: ")
        if fault:
            report(fault)
        else:
            yield line, value
        mark = window.skip_space()
        if mark == ",":
            window.advance(1)
            if (mark := window.skip_space()) == "]":
                raise window.wrong("a comma before the end of the array")
        elif mark != "]":
            raise window.wrong("',' or ']' is missing after a row" if mark else "the array is not closed")
    window.advance(1)
    if window.skip_space():
        raise window.wrong("something follows the end of the array")


class _Window:
    """The part of a long text that is in memory: it grows until a value is whole, and forgets what was read."""

    def __init__(self, file: SourceFile) -> None:
        self.where = str(file.path)
        self.chunks = text_chunks(file)
        self.parser = Parser(self.where)
        self.text, self.at, self.ended = "", 0, False
        self.line, self.column = 1, 1

    def fill(self, size: int) -> bool:
        """Read at least ``size`` more characters; return whether there were any."""
        if self.ended:
            return False
        parts, got = [self.text[self.at :]], 0
        while got < size:
            chunk = next(self.chunks, "")
            if not chunk:
                self.ended = True
                break
            parts.append(chunk)
            got += len(chunk)
        self.text, self.at = "".join(parts), 0
        return got > 0

    def advance(self, count: int) -> None:
        """Step over characters, and keep line and column."""
        end = self.at + count
        if lines := self.text.count("\n", self.at, end):
            self.line += lines
            self.column = end - self.text.rfind("\n", self.at, end)
        else:
            self.column += count
        self.at = end

    def skip_space(self) -> str:
        """Step over white space; return the character after it, or an empty string at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.advance(found.end() - self.at if found else 0)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.fill(1):
                return ""

    def value(self, prefix: str = "") -> tuple[int, Any, BadInput | None]:
        """Parse the value that starts here; return its line, itself, and what is wrong with it beside its syntax."""
        line = self.line
        while True:
            size = len(self.text) - self.at
            try:
                value, end = self.parser.raw(self.text, self.at)
                whole = end < len(self.text) or self.ended
                failed: json.JSONDecodeError | None = None
            except json.JSONDecodeError as error:
                failed = error
                # Cut off by the window's end, or wrong? A fault well before the end is a fault.
                near = error.pos > len(self.text) - 32 or error.msg.startswith("Unterminated string")
                whole = self.ended or not near
            except (RecursionError, ValueError) as error:
                raise self.parser.refuse(error, f"{self.where}:{line}", fatal=True) from None
            if whole:
                break
            if size > ROW_LIMIT:
                problem = too_long(f"{self.where}:{line}")
                problem.fatal = True
                raise problem
            self.fill(max(size, 1 << 16))  # twice as much each time: a long row costs no more than a few parses
        if failed:
            at = failed.pos - self.at
            key = self.parser.key_before(self.text, self.at, failed.pos)
            self.advance(max(0, at))
            raise self.wrong(f"{prefix}{failed.msg}{key}")
        fault = self.parser.fault(value, self.text, self.at, end, f"{self.where}:{line}")
        if fault:
            fault.what = prefix + fault.what
        self.advance(end - self.at)
        return line, value, fault

    def wrong(self, what: str) -> BadInput:
        """Return the fault of syntax at this place."""
        return BadInput(
            "bad-json", f"not valid JSON: {what} (column {self.column})", where=f"{self.where}:{self.line}", fatal=True
        )


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
