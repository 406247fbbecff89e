"""The prepared directory: three files of rows, the report, and a manifest that vouches for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, check_manifest, claim_output, directory_kind, read_json, write_json
from lifelong.text.document import Document

KIND = "prepared"
# `val` is the name that other tools look for; here it is the gate.
FILES = {"train": "train.jsonl", "gate": "val.jsonl", "test": "test.jsonl"}
REPORT = "dataset_metadata.json"


def is_prepared(path: str | Path) -> bool:
    """Whether ``path`` is a directory that `prepare` wrote."""
    return directory_kind(Path(path)) == KIND


def write_prepared(out: Path, splits: Mapping[str, Iterable[Document]], report: dict[str, Any]) -> None:
    """Write a prepared directory whole or not at all.

    Raises:
        LifelongError: ``out`` holds something else, or the disk refuses.
    """
    claim_output(out, KIND)
    with atomic_directory(out, KIND) as folder:
        for name, filename in FILES.items():
            with (folder / filename).open("w", encoding="utf-8", newline="\n") as handle:
                handle.writelines(json.dumps(item.row(), ensure_ascii=False) + "\n" for item in splits[name])
        write_json(folder / REPORT, report)


def read_prepared(path: Path) -> tuple[dict[str, list[Document]], dict[str, Any]]:
    """Read the splits and the report of a prepared directory, after checking it against its manifest.

    Raises:
        LifelongError: it is not a prepared directory, or a file is missing or changed.
    """
    fix = "Run `lifelong prepare` again, into this directory or a new one."
    if not is_prepared(path):
        raise LifelongError("not a prepared directory", where=str(path), fix=fix)
    if problem := check_manifest(path):
        raise LifelongError(problem, where=str(path), fix=fix)
    report: dict[str, Any] = read_json(path / REPORT)
    return {split: _rows(path / filename) for split, filename in FILES.items()}, report


def _rows(file: Path) -> list[Document]:
    documents = []
    with file.open(encoding="utf-8", newline="\n") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                documents.append(Document.from_row(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise LifelongError(f"not a prepared row: {error!r}", where=f"{file}:{number}") from None
    return documents
