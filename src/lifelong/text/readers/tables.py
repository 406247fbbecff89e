"""Tables: CSV and TSV by the standard library, Parquet by pyarrow in batches; a row means what its columns say."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lifelong.text.document import BadInput
from lifelong.text.readers.mappings import KNOWN_KEYS, REQUIRED, detect, missing_key
from lifelong.text.readers.opening import ROW_LIMIT, binary, check_start, decode, open_bytes
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

Row = tuple[int | None, Any]
_BATCH = 128  # rows


def csv_rows(file: SourceFile, report: OnProblem) -> Iterator[Row]:
    """Yield the rows of a CSV or TSV file as objects; the first row names the columns.

    A row that does not fit costs that row only. A semicolon separates where the heading has one and no comma.
    """
    # The limit is the module's, not the reader's; rows are limited by ours.
    csv.field_size_limit(ROW_LIMIT)
    where = str(file.path)
    lines = _lines(file)
    first = next(lines, "")
    mark = "\t" if file.container == "tsv" else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(_again(first, lines), delimiter=mark, strict=True)
    heading: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "field limit" in str(error):
                raise BadInput("too-long-row", f"{error}", where=f"{where}:{line}", fatal=True) from None
            problem = BadInput("bad-table", f"not valid CSV: {error}", where=f"{where}:{line}", fatal=not heading)
            if problem.fatal:
                raise problem from None
            report(problem)
            continue
        if not cells:
            continue
        if not heading:
            heading = _heading(cells, file)
        elif len(cells) != len(heading):
            what = f"the row has {len(cells)} columns, the heading {len(heading)}"
            fix = f"Put a cell that holds {mark!r} or a line end in double quotes."
            report(BadInput("bad-table", what, where=f"{where}:{line}", fix=fix))
        else:
            yield line, dict(zip(heading, cells, strict=True))


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _lines(file: SourceFile) -> Iterator[str]:
    with open_bytes(file) as stream:
        number = 0
        while line := stream.readline(ROW_LIMIT + 1):
            number += 1
            if number == 1:
                check_start(line, file.path)
                line = line.removeprefix(b"\xef\xbb\xbf")
            if b"\0" in line:
                raise binary(file.path)
            if len(line) > ROW_LIMIT:
                what = f"a line is longer than {ROW_LIMIT >> 20} MB"
                raise BadInput("too-long-row", what, where=f"{file.path}:{number}", fatal=True)
            yield decode(line, file.path, number)


def _heading(cells: list[str], file: SourceFile) -> list[str]:
    names = [name if (name := cell.strip().lower()) in KNOWN_KEYS else cell.strip() for cell in cells]
    _check_columns(names, file)
    return names


def _check_columns(names: list[str], file: SourceFile) -> None:
    """Raise BadInput where columns have one name, or make no format: once for the table, not once a row."""
    where = f"{file.path}:1" if file.container != "parquet" else str(file.path)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput("duplicate-key", f"two columns are called {twice!r}", where=where, fatal=True)
    columns = dict.fromkeys(names)
    wanted = file.row_format or detect(columns)
    if wanted is None:
        known = "; ".join(" + ".join(group[0] for group in groups) for groups in REQUIRED.values())
        shown = ", ".join(names)[:200]
        what = f"the columns ({shown}) make no known format"
        raise BadInput(
            "unknown-format" if file.found else "missing-key",
            what,
            where=where,
            fix=f"Needed is one of: {known}.",
            fatal=True,
        )
    if problem := missing_key(REQUIRED[wanted], columns, "table", where):
        problem.fatal = True
        raise problem


def parquet_rows(file: SourceFile, report: OnProblem) -> Iterator[Row]:
    """Yield the rows of a Parquet file as objects, numbered from 1; one batch of rows is in memory."""
    import pyarrow
    import pyarrow.parquet

    where = str(file.path)
    with open_bytes(file, as_text=False) as stream:
        try:
            table = pyarrow.parquet.ParquetFile(_seekable(stream, file))
            names = [str(name) for name in table.schema_arrow.names]
            _check_columns(names, file)
            number = 0
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except BadInput:
            raise
        except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError, OverflowError) as error:
            what = (
                f"not a usable Parquet file: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
            )
            raise BadInput("bad-file", what, where=where, fatal=True) from None


def _seekable(stream: Any, file: SourceFile) -> Any:
    """Return the file, or a decompressed copy of it on disk: Parquet begins at its end."""
    if stream.seekable():
        return stream
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the reader that holds it
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def parse_cells(rows: Iterator[Row]) -> Iterator[Row]:
    """Yield rows of a table with conversations that were written as JSON text read as such."""
    for line, row in rows:
        for key in ("messages", "conversations"):
            if isinstance(value := row.get(key), str) and value[:1] == "[":
                # What is not JSON stays text, and is refused as a value of the wrong type.
                with contextlib.suppress(ValueError, RecursionError):
                    row[key] = json.loads(value)
        yield line, row
