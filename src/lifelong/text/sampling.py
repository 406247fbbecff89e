"""A sample of text that a tokenizer learns from: train documents only, within budgets, fair to every source.

The texts wait in files on disk, so that memory holds none of them until they are learned from.
"""

from __future__ import annotations

import dataclasses
import glob
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError, suggest
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import is_prepared
from lifelong.text.splitting import position
from lifelong.text.stream import Progress, Source, as_sources, stream_splits


@dataclass(slots=True)
class Group:
    """The documents of one source (or named domain): what was read of it, and which of them are in the sample."""

    source: str  # as it was given
    file: Path
    sizes: list[int] = field(default_factory=list)  # bytes, UTF-8
    places: list[float] = field(default_factory=list)  # in [0, 1), by hash: the order in which documents are taken
    taken: set[int] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        """Bytes of the documents in the sample."""
        return sum(self.sizes[number] for number in self.taken)

    def take(self, budget: int) -> None:
        """Choose whole documents by hash, up to a budget in bytes; at least one."""
        self.taken.clear()
        for number in sorted(range(len(self.sizes)), key=self.places.__getitem__):
            if self.taken and self.sizes[number] > budget:
                break
            self.taken.add(number)
            budget -= self.sizes[number]


class Sample:
    """The chosen documents, read from disk as they are asked for."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.groups = groups

    @property
    def documents(self) -> int:
        """Documents in the sample."""
        return sum(len(group.taken) for group in self.groups.values())

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the sample."""
        return sum(group.bytes for group in self.groups.values())

    @property
    def report(self) -> dict[str, dict[str, int]]:
        """For each source: bytes and documents that were there to learn from, and in the sample."""
        return {
            name: {
                "available_documents": len(group.sizes),
                "available_bytes": sum(group.sizes),
                "documents": len(group.taken),
                "bytes": group.bytes,
            }
            for name, group in self.groups.items()
        }

    def texts(self) -> Iterator[str]:
        """Yield the texts, source by source, in the order in which they were read."""
        for group in self.groups.values():
            with group.file.open(encoding="utf-8") as handle:
                for number, line in enumerate(handle):
                    if number in group.taken:
                        yield json.loads(line)


def draw_sample(
    sources: Sequence[Source],
    folder: Path,
    *,
    seed: int = 0,
    budgets: Mapping[str, int] | None = None,
    max_bytes: int | None = None,
    balance: bool = False,
    progress: Progress | None = None,
    report: dict[str, Any] | None = None,
) -> Sample:
    """Read the train split of sources into ``folder``, and choose from it.

    Args:
        sources: as `stream_splits` takes them; the split is the one that ``prepare`` makes with this seed.
        folder: an empty folder for the texts.
        seed: of the split and the choice.
        budgets: bytes of a source that are taken at most, by its path as it was given, or the last part of it. A data
            set of the hub is read no further than that.
        max_bytes: bytes of the whole sample.
        balance: take equally many bytes of each source (of each domain, where documents have one).
        progress: called with (files done, files in all).
        report: filled with what reading reports.

    Raises:
        LifelongError: as `stream_splits`; a budget names no source; nothing is in the train split.
    """
    given = as_sources(sources)
    limits = _limits(given, budgets or {})
    given = [dataclasses.replace(s, max_bytes=limits.get(str(s.path))) if s.is_hub else s for s in given]
    roots = [(_root(source), str(source.path)) for source in given if not is_prepared(source.path)]
    report = {} if report is None else report
    groups: dict[str, Group] = {}
    handles = {}
    try:
        for split, document in stream_splits(given, seed=seed, progress=progress, report=report):
            if split != "train":
                continue
            entry = report["sources"][-1]  # prepared directories come first, one by one
            source = str(entry["path"]) if entry["kind"] == "prepared" else _source(document, roots)
            name = document.domain or source
            if name not in groups:
                groups[name] = Group(source, folder / f"{len(groups):05d}.jsonl")
                handles[name] = groups[name].file.open("w", encoding="utf-8")
            handles[name].write(json.dumps(document.text) + "\n")
            groups[name].sizes.append(document.bytes)
            groups[name].places.append(position(f"{document.source}\0{document.name}\0{document.line}", seed))
    finally:
        for handle in handles.values():
            handle.close()
    if not groups:
        raise LifelongError("no document is in the train split", fix="Give more text.")
    _choose(groups, limits, max_bytes, balance)
    return Sample(groups)


def _choose(groups: Mapping[str, Group], limits: Mapping[str, int], max_bytes: int | None, balance: bool) -> None:
    sizes = {name: float(sum(group.sizes)) for name, group in groups.items()}
    of_source: Counter[str] = Counter()
    for name, group in groups.items():
        of_source[group.source] += int(sizes[name])
    for name, group in groups.items():
        if group.source in limits and of_source[group.source]:
            sizes[name] *= min(1.0, limits[group.source] / of_source[group.source])
    if balance:
        sizes = dict.fromkeys(sizes, min(sizes.values()))
    if max_bytes is not None and (total := sum(sizes.values())) > max_bytes:
        sizes = {name: size * max_bytes / total for name, size in sizes.items()}
    for name, group in groups.items():
        group.take(int(sizes[name]))


def _limits(sources: list[DataSource], budgets: Mapping[str, int]) -> dict[str, int]:
    """Return the budget of each source that has one, by its path as it was given."""
    names = {str(source.path): {str(source.path), Path(source.path).name} for source in sources}
    limits: dict[str, int] = {}
    for name, limit in budgets.items():
        meant = [path for path, known in names.items() if name in known]
        if not meant:
            known = sorted({word for words in names.values() for word in words})
            raise LifelongError(
                f"a budget names '{name}', which is no source here.{suggest(name, known)}",
                fix=f"Sources: {', '.join(names)}.",
            )
        limits |= dict.fromkeys(meant, limit)
    return limits


def _root(source: DataSource) -> str:
    """Return what the names of all files of a source begin with."""
    parts = Path(source.path).expanduser().parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(source.path) if source.is_hub else str(Path(*parts[:fixed]))


def _source(document: Document, roots: Sequence[tuple[str, str]]) -> str:
    """Return the source with the longest root that a document's file lies under."""
    under = [(len(root), path) for root, path in roots if document.source.startswith(root)]
    return max(under)[1] if under else document.source
