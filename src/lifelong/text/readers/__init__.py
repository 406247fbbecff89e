"""From files to documents: each kind of file is read strictly, and every refusal names the file and the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lifelong.text.document import BadInput, DataSource, Document
from lifelong.text.readers.hub import read_hub
from lifelong.text.readers.json_rows import json_lines, json_values
from lifelong.text.readers.listing import SUFFIXES, Listing, SourceFile, list_files
from lifelong.text.readers.mappings import Rows
from lifelong.text.readers.opening import unreadable
from lifelong.text.readers.plain import read_plain
from lifelong.text.readers.primer import read_primer
from lifelong.text.readers.roam import read_roam
from lifelong.text.readers.rules import RULES, OnProblem
from lifelong.text.readers.tables import csv_rows, parquet_rows, parse_cells
from lifelong.text.readers.web import read_html, read_ipynb, read_pdf
from lifelong.text.sources import expand_sources

__all__ = [
    "RULES",
    "SUFFIXES",
    "Listing",
    "OnProblem",
    "SourceFile",
    "list_files",
    "read_file",
    "read_sources",
]

_Reader = Callable[[SourceFile, OnProblem], Iterator[Document]]


def read_sources(sources: Sequence[DataSource | str | Path], on_problem: OnProblem | None = None) -> Iterator[Document]:
    """Yield the documents of files, globs, folders and data sets, one after another; see `read_file`.

    Raises:
        LifelongError: nothing is there; or, without ``on_problem``, the first problem of a file.
    """
    for source in expand_sources(sources):
        try:
            files = list_files(source).files
        except BadInput as problem:
            if on_problem is None:
                raise
            on_problem(problem)
            continue
        for file in files:
            yield from read_file(file, on_problem)


def read_file(file: SourceFile, on_problem: OnProblem | None = None) -> Iterator[Document]:
    """Yield the documents of one file: one for text, Markdown, code and pages, one a row for rows and dialogues.

    Text beyond 1 MB comes in contiguous pieces of about 4 kB. One row, or one piece, is in memory at a time.

    Args:
        file: from `list_files`. What the reader leaves out or cannot resolve is counted in its ``notes``, and so is
            that it holds nothing.
        on_problem: called with each problem (its ``rule`` is one of `RULES`); reading then goes on with the next row,
            or stops with this file where the problem is ``fatal``. Without it, the first problem is raised.

    Raises:
        BadInput: something cannot be read; names the file, and the line where there is one.
    """
    file.notes.clear()
    if file.number == 0:  # the source is read from its beginning
        file.spent[0] = 0
    limit = file.source.max_bytes
    if limit is not None and file.spent[0] >= limit:
        return
    empty = True

    def report(problem: BadInput) -> None:
        nonlocal empty
        empty = False
        if on_problem is None:
            raise problem
        on_problem(problem)

    try:
        for document in READERS[file.container](file, report):
            empty = False
            yield document
            if limit is not None:
                file.spent[0] += document.bytes
                if file.spent[0] >= limit:
                    return
    except BadInput as problem:
        if problem.rule == "unknown-format":
            file.notes["rows of no known format passed over"] += 1
            return
        if on_problem is None:
            raise
        problem.fatal = True  # whoever raised it had nothing more to read
        report(problem)
    except OSError as error:
        refused = unreadable(error, str(file.path))
        if on_problem is None:
            raise refused from error
        report(refused)
    if empty:
        # Noted, not a problem: every tree of code has such files.
        file.notes["files that hold no text"] += 1


def _jsonl(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    return Rows(file, report).documents(json_lines(file, report))


def _json(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    return Rows(file, report).documents(json_values(file, report))


def _csv(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    return Rows(file, report).documents(parse_cells(csv_rows(file, report)))


def _parquet(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    return Rows(file, report).documents(parse_cells(parquet_rows(file, report)))


READERS: dict[str, _Reader] = {
    "text": read_plain,
    "markdown": read_plain,
    "code": read_plain,
    "roam": read_roam,
    "primer": read_primer,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "tsv": _csv,
    "parquet": _parquet,
    "html": read_html,
    "pdf": read_pdf,
    "ipynb": read_ipynb,
    "hub": read_hub,
}
