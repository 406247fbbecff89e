"""Keeping a store up with its sources: what changed is read again, what is gone leaves."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lifelong.files import sha256_file
from lifelong.retrieve.passages import Passage
from lifelong.retrieve.splitting import DocumentProcessor
from lifelong.retrieve.store import SimpleDocumentStore
from lifelong.retrieve.structure import markup_of
from lifelong.text.document import BadInput, DataSource
from lifelong.text.readers import SourceFile, list_files, read_file
from lifelong.text.readers.opening import text_chunks
from lifelong.text.readers.plain import front_matter
from lifelong.text.sources import expand_sources

_PLAIN = ("text", "markdown", "code")
_SAVE_EVERY = 50_000  # chunks: what a kill can undo
_TICK = 2_000_000_000  # nanoseconds: of two writes within the clock's step, the second may not show
_EXAMPLES = 5


@dataclass(slots=True)
class Report:
    """What indexing did: files by what became of them, chunks, and what could not be read.

    Attributes:
        added: files that the store had not.
        changed: files that were indexed again.
        unchanged: files that were left as they are.
        removed: files that are gone from their source.
        chunks: written.
        chunks_removed: of changed and removed files.
        torn: blocks of code cut because each alone is longer than a chunk may be, counted in chunks.
        bytes: text read, in UTF-8 bytes.
        problems: what could not be read, by rule.
        examples: a few of those problems, in words.
        notes: what readers left out, counted.
        skipped: files that are not read, by suffix or reason.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    chunks_removed: int = 0
    torn: int = 0
    bytes: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        """Return all as plain values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}

    def problem(self, found: BadInput) -> None:
        """Count something that could not be read."""
        self.problems[found.rule] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(str(found))


def index_sources(
    store: SimpleDocumentStore,
    sources: Sequence[DataSource | str | Path],
    splitting: Mapping[str, Any],
    progress: Callable[[float, float], None] | None = None,
) -> Report:
    """Bring a store up to its sources, and save it.

    A file is read again where its content, or the way of splitting, is another than when it was indexed. A file that
    a source no longer has leaves the store. What cannot be read is counted and passed over; it is tried again the
    next time.

    Args:
        store: a store with a place.
        sources: files, folders, globs, data sets of the hub, as everywhere.
        splitting: arguments of `DocumentProcessor.split_text`.
        progress: called with files done, and all of them.

    Raises:
        LifelongError: a source is not there or holds nothing readable, another process writes the store, or an
            argument does not fit.
    """
    report = Report()
    DocumentProcessor.split_text("", **splitting)  # what does not fit is said before anything is read
    known: dict[str, Any] = dict(store.facts["sources"])
    changed: list[tuple[SourceFile, str, dict[str, Any]]] = []
    present: dict[str, set[str]] = {}
    for source in expand_sources(sources):
        root = str(source.path)
        listing = list_files(source)
        report.skipped.update(listing.skipped)
        present.setdefault(root, set()).update(str(file.path) for file in listing.files)
        for file in listing.files:
            facts = _facts(file, known.get(str(file.path)), splitting, root)
            if facts is None:
                report.unchanged += 1
            else:
                changed.append((file, root, facts))
    gone = [name for name, facts in known.items() if facts["root"] in present and name not in present[facts["root"]]]
    report.removed = len(gone)
    report.chunks_removed += store.delete(gone) if gone else 0
    for name in gone:
        del known[name]
    pending: list[Passage] = []
    unsaved = 0
    for done, (file, root, facts) in enumerate(changed, start=1):
        name = str(file.path)
        report.changed += name in known
        report.added += name not in known
        if name in known:
            report.chunks_removed += store.delete([name])
        before = sum(report.problems.values())
        passages = _passages(file, splitting, report)
        report.notes.update(file.notes)
        known[name] = {**facts, "root": root, "chunks": len(passages)}
        if sum(report.problems.values()) > before:
            known[name]["sha256"] = None  # to be tried again
        pending += passages
        if len(pending) >= 4096:
            unsaved += store.append(pending)
            report.chunks += len(pending)
            pending = []
        if unsaved >= _SAVE_EVERY:
            store.facts = {**store.facts, "sources": known}
            store.save()
            unsaved = 0
        if progress:
            progress(done, len(changed))
    store.append(pending)
    report.chunks += len(pending)
    if changed or gone or not store.facts["sources"]:
        store.facts = {**store.facts, "sources": known}
        store.save()
    return report


def _facts(
    file: SourceFile, known: Mapping[str, Any] | None, splitting: Mapping[str, Any], root: str
) -> dict[str, Any] | None:
    """Return what tells this state of a file from others, or None where it is the one that is in the store."""
    way = {**splitting, "container": file.container, "format": file.row_format, "encoding": file.source.encoding}
    if (markup := markup_of(file.container, file.name)) not in ("markdown", "none"):
        way["markup"] = markup
    if file.container == "hub":
        return {"way": way, "sha256": None}
    try:
        state = file.path.stat()
        facts = {"way": way, "bytes": state.st_size, "modified": state.st_mtime_ns, "seen": time.time_ns()}
        if known and known["sha256"] and known["way"] == way:
            same = (known["bytes"], known["modified"]) == (facts["bytes"], facts["modified"])
            if same and known["seen"] - known["modified"] > _TICK:
                return None
            if sha256_file(file.path) == known["sha256"]:
                return None
        return {**facts, "sha256": sha256_file(file.path)}
    except OSError:
        return {"way": way, "sha256": None}  # whoever reads it says what is wrong


def _passages(file: SourceFile, splitting: Mapping[str, Any], report: Report) -> list[Passage]:
    result = []
    try:
        for text, offset, lines, name, kind, row in _texts(file, report):
            report.bytes += len(text.encode("utf-8", "surrogatepass"))
            for chunk in DocumentProcessor.split_text(text, **splitting, markup=markup_of(kind, file.name)):
                line = last = row or 0
                if lines is not None:
                    line, last = (bisect_right(lines, place + offset) + 1 for place in (chunk.start, chunk.end - 1))
                report.torn += chunk.torn
                result.append(
                    Passage(
                        text=str(chunk),
                        source=str(file.path),
                        start=chunk.start + offset,
                        end=chunk.end + offset,
                        line=line,
                        last_line=last,
                        headings=chunk.headings,
                        name=name,
                        kind=kind,
                    )
                )
    except BadInput as problem:
        report.problem(problem)
    return result


def _texts(file: SourceFile, report: Report) -> Iterator[tuple[str, int, list[int] | None, str, str, int | None]]:
    """Yield the texts of a file: each with its offset, the file's line ends, a name, a kind, and the line of a row.

    A file of running text is read whole, so that every place is one in the file. Spans of a text that was taken out
    of another format are places in that text.
    """
    if file.container not in _PLAIN:
        for document in read_file(file, report.problem):
            name = document.name if document.line is None else f"{document.name}#{abs(document.line)}"
            yield document.text, 0, None, name, document.kind, max(0, document.line or 0)
        return
    whole = "".join(text_chunks(file))
    body = front_matter(whole)[0] if file.container == "markdown" else whole
    lines = [place for place, sign in enumerate(whole) if sign == "\n"]
    yield body, len(whole) - len(body), lines, file.name, file.container, None
