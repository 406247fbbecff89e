"""Read sources and check what comes out; the splits of a prepared directory are checked against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import check_prepared, is_prepared, stored_split
from lifelong.text.readers import SourceFile, list_files, read_file
from lifelong.text.splitting import SPLITS
from lifelong.text.validation.checker import Checker

# How people name the files of their splits: `train.jsonl` and `test.jsonl` side by side are checked as such.
_SPLIT_NAMES = {
    **{"train": "train", "training": "train", "test": "test"},
    **dict.fromkeys(("val", "valid", "validation", "dev", "gate"), "gate"),
}
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
    # `test.rst` alone is a page about tests: only where train lies beside it, the names are those of splits.
    train = {file.path.parent for file in files if _split_of(file) == "train"}
    for file in files:
        split = _split_of(file) if file.path.parent in train else ""
        yield str(source.path), split, partial(read_file, file, checker.problem)


def _split_of(file: SourceFile) -> str:
    return _SPLIT_NAMES.get(re.split(r"[._-]", file.path.name.lower())[0], "") if file.container != "code" else ""
