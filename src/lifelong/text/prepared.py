"""The prepared directory: three files of rows, the report, and a manifest that vouches for them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, overload

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, check_manifest, claim_output, directory_kind, read_json, write_json
from lifelong.text.document import Document

KIND = "prepared"
# `val` is the name that other tools look for; here it is the gate.
FILES = {"train": "train.jsonl", "gate": "val.jsonl", "test": "test.jsonl"}
REPORT = "dataset_metadata.json"
_FIX = "Run `lifelong prepare` again, into this directory or a new one."


def is_prepared(path: str | Path) -> bool:
    """Whether ``path`` is a directory that `prepare` wrote."""
    return directory_kind(Path(path)) == KIND


class PreparedWriter:
    """Writes a prepared directory document by document, whole or not at all.

    Used as a context; ``report`` is written at its end.

    Raises:
        LifelongError: ``out`` holds something else, or the disk refuses.
    """

    def __init__(self, out: Path) -> None:
        claim_output(out, KIND)  # before the work, not after
        self.report: dict[str, Any] = {}
        self.folder = out
        self._stack = contextlib.ExitStack()
        self._out = out
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Self:
        self.folder = self._stack.enter_context(atomic_directory(self._out, KIND))
        self._files = {split: (self.folder / name).open("wb") for split, name in FILES.items()}
        return self

    def add(self, split: str, document: Document) -> None:
        """Append a document to a split."""
        self._files[split].write(json.dumps(document.row(), ensure_ascii=False).encode("utf-8") + b"\n")

    def rewrite(self, change: Callable[[Document], Iterable[Document]]) -> None:
        """Put other documents in the place of each, test first; the counts of the report's splits follow."""
        for split, name in reversed(FILES.items()):
            self._files[split].close()
            old = self.folder / f"{name}.old"
            (self.folder / name).replace(old)
            self._files[split] = (self.folder / name).open("wb")
            facts = {"documents": 0, "bytes": 0}
            for document in StoredDocuments(old):
                for changed in change(document):
                    self.add(split, changed)
                    facts["documents"] += 1
                    facts["bytes"] += changed.bytes
            old.unlink()
            self.report["splits"][split] |= facts
        self.flush()

    def flush(self) -> None:
        """Make what was added readable from ``folder``."""
        for file in self._files.values():
            file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            write_json(self.folder / REPORT, self.report)
        self._stack.__exit__(kind, error, trace)


def check_prepared(path: Path) -> None:
    """Raise LifelongError where a directory is not a prepared one, or not as it was written."""
    if not is_prepared(path):
        raise LifelongError("not a prepared directory", where=str(path), fix=_FIX)
    if problem := check_manifest(path):
        raise LifelongError(problem, where=str(path), fix=_FIX)


def read_report(path: Path) -> dict[str, Any]:
    """Return what `prepare` reported."""
    report: dict[str, Any] = read_json(path / REPORT)
    return report


def read_split(path: Path, split: str) -> Iterator[Document]:
    """Yield the documents of a split, after checking the directory against its manifest.

    Raises:
        LifelongError: it is not a prepared directory, or a file is missing or changed.
    """
    check_prepared(path)
    yield from stored_split(path, split)


def stored_split(path: Path, split: str, domain: str = "") -> StoredDocuments:
    """Return the documents of a split of a directory that was checked, read as they are asked for."""
    return StoredDocuments(path / FILES[split], domain)


class StoredDocuments(Sequence[Document]):
    """The documents of a file of prepared rows; only where each begins is kept in memory.

    Args:
        file: the rows.
        domain: given to every document, in the place of its own.
    """

    def __init__(self, file: Path, domain: str = "") -> None:
        self.file, self.domain = file, domain
        self._starts = array("q", [0])
        with file.open("rb") as handle:
            for line in handle:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Document]:
        with self.file.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                yield self._parse(line, number)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        numbers = range(len(self))[index]
        with self.file.open("rb") as handle:
            if isinstance(numbers, int):
                return self._at(handle, numbers)
            return [self._at(handle, number) for number in numbers]

    def _at(self, handle: BinaryIO, number: int) -> Document:
        start, stop = self._starts[number], self._starts[number + 1]
        handle.seek(start)
        return self._parse(handle.read(stop - start), number + 1)

    def _parse(self, line: bytes, number: int) -> Document:
        try:
            document = Document.from_row(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise LifelongError(f"not a prepared row: {error!r}", where=f"{self.file}:{number}") from None
        return dataclasses.replace(document, domain=self.domain) if self.domain else document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
