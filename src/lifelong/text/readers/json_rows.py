"""JSON by the standard and no further, a row at a time: JSON lines, or one array of any length.

The standard library's parser does the parsing; what it lets pass (keys given twice, NaN, numbers beyond a float, half
characters, nesting without end) is refused here. One row is in memory at a time.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lifelong.text.document import BadInput, spell_place
from lifelong.text.readers.opening import ROW_LIMIT, binary, check_start, decode, open_bytes, text_chunks
from lifelong.text.readers.rules import OnProblem
from lifelong.text.readers.strict_json import Parser

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

# The line of a row (None for a file that is one object; minus its number where it shares the line) and the row.
Row = tuple[int | None, Any]
_SPACE = re.compile(r"[ \t\r\n]*")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
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
            if first and start[0] == b"[":
                break  # an array, whatever the suffix says
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
        return
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
    before = 0  # the line of the row before
    while mark != "]":
        row += 1
        line, value, fault = window.value(f"row {row}: ")
        mark, wrong = window.skip_space(), ""
        if mark == ",":
            window.advance(1)
            mark = window.skip_space()
            wrong = "a comma before the end of the array" if mark == "]" else ""
        elif mark != "]":
            wrong = "',' or ']' is missing after a row" if mark else "the array is not closed"
        # A line that several rows share tells nobody which of them is meant.
        shared = line == before or (mark not in ("", "]") and line == window.line)
        place, before = -row if shared else line, line
        if fault:
            fault.where = spell_place(window.where, place)
            report(fault)
        else:
            yield place, value
        if wrong:
            raise window.wrong(wrong)
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
