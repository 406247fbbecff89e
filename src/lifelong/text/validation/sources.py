"""Read sources and check what comes out; the splits of a prepared directory are checked against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import FILES, is_prepared
from lifelong.text.readers import list_files, read_file
from lifelong.text.validation.checker import Checker

Progress = Callable[[int, int], None]


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
    given = [DataSource.parse(source) for source in sources]
    if not given:
        raise LifelongError("no source of text was given", fix="Name at least one file or folder.")
    work = [
        (str(source.path), split, file)
        for source in given
        for split, part in _parts(source)
        for file in list_files(part).files
    ]
    for done, (name, split, file) in enumerate(work, start=1):
        for document in read_file(file, checker.problem):
            checker.see(document, split, name)
            if on_document:
                on_document(document)
        if progress:
            progress(done, len(work))


def _parts(source: DataSource) -> list[tuple[str, DataSource]]:
    path = Path(source.path).expanduser()
    if not is_prepared(path):
        return [("", source)]
    named = ((split, path / name) for split, name in FILES.items())
    return [(split, dataclasses.replace(source, path=file)) for split, file in named if file.stat().st_size]
