"""Read sources and check what comes out; the splits of a prepared directory are checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.text.document import BadInput, DataSource, Document
from lifelong.text.prepared import check_prepared, is_prepared, stored_split
from lifelong.text.readers import SourceFile, list_files, read_file
from lifelong.text.sources import expand_sources
from lifelong.text.splitting import SPLITS, named_splits
from lifelong.text.validation.checker import Checker

Progress = Callable[[int, int], None]
# The name of the source, the split (or none), and what reads the documents.
Part = tuple[str, str, Callable[[], Iterable[Document]]]


def check_sources(
    checker: Checker,
    sources: Sequence[DataSource | str | Path],
    *,
    progress: Progress | None = None,
    on_document: Callable[[Document], None] | None = None,
) -> None:
    """Read every document of the sources and hand it to the checker; what cannot be read is a finding, not an end.

    Args:
        checker: takes the documents.
        sources: files, globs, folders or prepared directories.
        progress: called with (files done, files in all).
        on_document: called with every document too.

    Raises:
        LifelongError: a source is not there.
    """
    given = expand_sources(sources)
    if not given:
        raise LifelongError("no source of text was given", fix="Name at least one file or folder.")
    work = [part for source in given for part in _parts(source, checker)]
    for done, (name, split, read) in enumerate(work, start=1):
        for document in read():
            checker.see(document, split, name)
            if on_document:
                on_document(document)
        if progress:
            progress(done, len(work))


def _parts(source: DataSource, checker: Checker) -> list[Part]:
    """Return what a source consists of: the splits of a prepared directory, or files."""
    name, path = str(source.path), Path(source.path).expanduser()
    if not source.is_hub and is_prepared(path):
        check_prepared(path)
        return [(name, split, partial(stored_split, path, split)) for split in SPLITS]
    try:
        listing = list_files(source)
    except BadInput as problem:  # a file that is empty or an archive; what is not there ends the check
        checker.problem(problem)
        return []
    for reason, count in listing.skipped.items():
        checker.left_out(f"{reason} (file not read)", count, name)
    named = named_splits(file.path for file in listing.files if file.may_name_split)
    return [(name, named.get(file.path, ("",))[0], partial(_read, file, checker)) for file in listing.files]


def _read(file: SourceFile, checker: Checker) -> Iterator[Document]:
    yield from read_file(file, checker.problem)
    for what, count in file.notes.items():
        checker.left_out(what, count, str(file.path))
