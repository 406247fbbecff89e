"""A corpus: documents in three splits, in memory or in a prepared directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.text.document import Document
from lifelong.text.prepared import PreparedWriter, check_prepared, is_prepared, read_report, stored_split
from lifelong.text.splitting import SPLITS
from lifelong.text.stream import Source, as_sources, stream_splits


@dataclass(slots=True)
class Corpus:
    """Documents in three splits: *train* teaches, *gate* decides, *test* only reports.

    ``report`` holds the counts: per source what was read, changed, kept and dropped (by reason, with examples), per
    split the documents and bytes, and warnings.
    """

    train: Sequence[Document] = field(default_factory=list)
    gate: Sequence[Document] = field(default_factory=list)
    test: Sequence[Document] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Sequence[Document]:
        """Return the documents of ``train``, ``gate`` or ``test``."""
        if name not in SPLITS:
            raise LifelongError(f"unknown split '{name}'", fix=f"Splits: {', '.join(SPLITS)}.")
        documents: Sequence[Document] = getattr(self, name)
        return documents


def build_corpus(sources: Sequence[Source] | Source, **options: Any) -> Corpus:
    """Read sources into memory, in three splits, cleaned and without copies; takes the options of `stream_splits`.

    Raises:
        LifelongError: as `stream_splits`.
    """
    splits: dict[str, list[Document]] = {name: [] for name in SPLITS}
    report: dict[str, Any] = {}
    for split, document in stream_splits(sources, **options, report=report):
        splits[split].append(document)
    return Corpus(**splits, report=report)


def prepare(sources: Sequence[Source] | Source, out: str | Path, **options: Any) -> Corpus:
    """Write sources as a prepared directory, one document in memory at a time; takes the options of `stream_splits`.

    Raises:
        LifelongError: as `stream_splits`; or ``out`` holds something that is not a prepared directory.
    """
    with PreparedWriter(Path(out)) as writer:
        for split, document in stream_splits(sources, **options, report=writer.report):
            writer.add(split, document)
    return load_prepared(out)


def load_prepared(path: str | Path, domain: str = "") -> Corpus:
    """Open a prepared directory, after checking it against its manifest; documents are read as they are asked for.

    With ``domain`` every document belongs to that one, whatever it said.

    Raises:
        LifelongError: it is not a prepared directory, or a file is missing or changed.
    """
    check_prepared(Path(path))
    splits = {split: stored_split(Path(path), split, domain) for split in SPLITS}
    return Corpus(**splits, report=read_report(Path(path)))


def open_corpus(sources: Sequence[Source] | Source, **options: Any) -> Corpus:
    """Return the corpus of a prepared directory as it is, or build one from raw sources."""
    given = as_sources(sources)
    alone = len(given) == 1 and given[0].weight == 1.0 and not options.get("texts")
    if alone and is_prepared(path := Path(given[0].path).expanduser()):
        return load_prepared(path, options.get("domain", ""))
    return build_corpus(given, **options)
