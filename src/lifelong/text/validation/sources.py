"""Read sources and check what comes out; the splits of a prepared directory are checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import check_prepared, is_prepared, stored_split
from lifelong.text.readers import list_files, read_file
from lifelong.text.splitting import SPLITS, named_splits
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
    for source in given:
        if is_prepared(path := Path(source.path).expanduser()):
            check_prepared(path)
    work = [part for source in given for part in _parts(source, checker)]
    for done, (name, split, documents) in enumerate(work, start=1):
        for document in documents():
            checker.see(document, split, name)
            if on_document:
                on_document(document)
        if progress:
            progress(done, len(work))


def _parts(source: DataSource, checker: Checker) -> Iterator[tuple[str, str, Callable[[], Iterable[Document]]]]:
    """Yield the name of the source, a split, and what reads its documents: for each split, or for each file."""
    path = Path(source.path).expanduser()
    if is_prepared(path):
        for split in SPLITS:
            yield str(source.path), split, partial(stored_split, path, split)
        return
    files = list_files(source).files
    named = named_splits(file.path for file in files if file.kind not in ("code", "markdown"))
    for file in files:
        yield str(source.path), named.get(file.path, ("",))[0], partial(read_file, file, checker.problem)
