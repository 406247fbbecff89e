"""From sources to documents in splits, one after another: read, clean, cut, drop duplicates, assign.

Nothing is dropped or changed silently: a report counts every document that was read, changed, kept or dropped, by
reason and with examples. Memory holds one file's text, and a few kB for each document that went by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.text.cleaning import clean
from lifelong.text.cutting import PIECE, cut, piece_of
from lifelong.text.document import SIMILAR, BadInput, DataSource, Document
from lifelong.text.prepared import is_prepared, read_split
from lifelong.text.readers import Listing, list_files, read_file
from lifelong.text.sources import expand_sources
from lifelong.text.splitting import (
    FEW_KEYS,
    SPLITS,
    assign,
    check_split,
    named_splits,
    position,
    split_key,
    threshold_split,
)
from lifelong.text.twins import Twins

Source = DataSource | str | Path
# Called with (files done, files in all).
Progress = Callable[[int, int], None]
OnProblem = Callable[[BadInput], None]
LONG = 64_000  # bytes: a longer text is cut, so that one file does not decide on its own what is held out
LONG_IF_ALONE = 2 * PIECE  # the same, where there are too few files to be split
_EXAMPLES = 3
_WITH = "split with"  # until its split is decided, a document names in its facts the key of its twin


def as_sources(sources: Sequence[Source] | Source) -> list[DataSource]:
    """Return sources as they are named by one path, or several; a YAML list of sources stands for those it names."""
    return expand_sources([sources] if isinstance(sources, str | Path | DataSource) else list(sources))


def stream_splits(
    sources: Sequence[Source] | Source,
    *,
    domain: str = "",
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    split_by: str = "path",
    min_chars: int = 20,
    near_duplicates: float | None = SIMILAR,
    texts: Sequence[Document] = (),
    report: dict[str, Any] | None = None,
    progress: Progress | None = None,
    on_problem: OnProblem | None = None,
    on_document: Callable[[Document], None] | None = None,
) -> Iterator[tuple[str, Document]]:
    """Yield ``(split, document)`` for every document of the sources that is kept.

    The split of a document is a pure function of seed and name (see `splitting`), so text that is added later never
    moves a test document into training. A source that is a prepared directory keeps its own splits. Of equal and of
    nearly equal documents only the first is kept, so no document has a twin in another split.

    Args:
        sources: files, globs, folders, prepared directories, data sets of the hub.
        domain: the name of this body of knowledge, written into every document.
        seed: of the split.
        fractions: shares of train, gate and test, by number of names.
        split_by: ``path`` (the path below the source's root; rows of a file, and pieces of a long text, each for
            itself) or ``name`` (the stem, which keeps ``json.decoder.md``, ``json.decoder.py`` and
            ``json.decoder.jsonl`` in one split).
        min_chars: shorter documents are dropped (a chat counts all its messages).
        near_duplicates: the similarity from which on a document counts as a copy of an earlier one; None: only equal
            ones do.
        texts: documents that are in memory, beside those of the sources.
        report: filled with the counts while the stream runs; complete when it has ended.
        progress: called with (files done, files in all).
        on_problem: called with what cannot be read, instead of raising it; the row is dropped, and counted.
        on_document: called with every document as it was read, before anything is changed.

    Raises:
        LifelongError: see `read_sources`; or no document is left.
    """
    check_split(fractions, split_by)
    given = as_sources(sources)
    if not given and not texts:
        raise LifelongError("no source of text was given", fix="Name at least one file or folder.")
    stream = _Stream(domain, min_chars, near_duplicates, split_by, report if report is not None else {})
    stream.on_problem, stream.on_document = on_problem, on_document
    ready = [source for source in given if is_prepared(Path(source.path).expanduser())]
    raw = [(source, list_files(source)) for source in given if source not in ready]
    # Prepared splits first: a raw copy of one of their test documents is then dropped as a duplicate.
    for source in ready:
        for split, document in stream.prepared(source):
            yield stream.count(split, document)
    files = [
        (file, entry) for source, listing in raw for entry in [stream.entry(source, listing)] for file in listing.files
    ]
    named = named_splits(file.path for file, _ in files if file.may_name_split)
    stream.named = {str(path): splits for path, splits in named.items()}
    if named:
        stream.report["warnings"].append(f"files keep the split they name: {', '.join(sorted(map(str, named)))}")
    # Test before gate before train: of two copies, the one that must stay unseen is kept.
    files.sort(key=lambda item: -SPLITS.index(named.get(item[0].path, SPLITS)[0]))

    own = {text.source: DataSource(text.source) for text in texts}
    entries = {name: stream.entry(source, Listing(source)) for name, source in own.items()}

    def documents() -> Iterator[Document]:
        for text in texts:
            yield from stream.accept(text, entries[text.source])
        for done, (file, entry) in enumerate(files, start=1):
            for document in read_file(file, stream.problems(entry)):
                yield from stream.accept(document, entry)
            for reason, count in file.notes.items():
                note_example(entry["notes"], reason, str(file.path), count)
            if progress:
                progress(done, len(files))

    # Conversations and running text are split each for itself, so that some of both are held out; by name, together.
    strata = {chats: _Assigner(stream, fractions, seed) for chats in (False, True)}
    for document in documents():
        for split, placed in strata[split_by == "path" and document.messages is not None].add(document):
            yield stream.count(split, placed)
    for stratum in strata.values():
        for split, placed in stratum.finish():
            yield stream.count(split, placed)
    stream.finish(seed=seed, fractions=fractions)


class _Assigner:
    """Holds documents back until there are enough names for thresholds on the hash; fewer are ranked by hash."""

    def __init__(self, stream: _Stream, fractions: Sequence[float], seed: int) -> None:
        self.stream, self.fractions, self.seed = stream, fractions, seed
        self.held: list[Document] = []
        self.keys: set[str] = set()

    def add(self, document: Document) -> Iterator[tuple[str, Document]]:
        """Take a document, and yield those whose split is decided, in the order in which they came."""
        self.held.append(document)
        if len(self.keys) < FEW_KEYS:
            self.keys.add(self.stream.key(document))
        if len(self.keys) >= FEW_KEYS:
            for ready in self.held:
                place = position(self.stream.key(ready), self.seed)
                yield self.stream.place(ready, threshold_split(place, self.fractions))
            self.held = []

    def finish(self) -> Iterator[tuple[str, Document]]:
        """Yield what is still held back: all, where there were few names."""
        if len(self.keys) < len(SPLITS):
            self.held = self.stream.cut_up(self.held)
        splits = assign((self.stream.key(document) for document in self.held), self.fractions, self.seed)
        for document in self.held:
            yield self.stream.place(document, splits[self.stream.key(document)])


class _Stream:
    """What is kept in mind between documents: hashes and digests of those that went by, and the counts."""

    def __init__(self, domain: str, min_chars: int, near: float | None, split_by: str, report: dict[str, Any]) -> None:
        self.domain, self.min_chars, self.split_by, self.report = domain, min_chars, split_by, report
        self.twins = Twins(near)
        self.on_problem: OnProblem | None = None
        self.on_document: Callable[[Document], None] | None = None
        self.named: dict[str, tuple[str, ...]] = {}
        self.alone = False
        report |= {"sources": [], "warnings": [], "splits": {name: {"documents": 0, "bytes": 0} for name in SPLITS}}

    def entry(self, source: DataSource, listing: Listing) -> dict[str, Any]:
        entry: dict[str, Any] = {"path": str(source.path), "kind": source.kind or "by suffix", "weight": source.weight}
        entry |= {"files": len(listing.files), "read": 0, "kept": 0, "bytes_read": 0, "bytes": 0}
        entry |= {"cut": {"documents": 0, "pieces": 0}, "changed": {}, "notes": {}, "dropped": {}}
        entry["skipped_files"] = {
            reason: {"count": count, "examples": listing.examples[reason]}
            for reason, count in listing.skipped.most_common()
        }
        self.report["sources"].append(entry)
        return entry

    def problems(self, entry: dict[str, Any]) -> OnProblem | None:
        """Return what to do with a row that cannot be read: count it and hand it on; None: raise it."""
        hand_on = self.on_problem
        if hand_on is None:
            return None

        def dropped(problem: BadInput) -> None:
            hand_on(problem)
            note_example(entry["dropped"], f"unreadable ({problem.rule})", problem.where or entry["path"])

        return dropped

    def accept(self, document: Document, entry: dict[str, Any], *, whole: bool = False) -> Iterator[Document]:
        """Clean a document, count it, and yield it, or its pieces; nothing where it is dropped."""
        if self.on_document:
            self.on_document(document)
        entry["read"] += 1
        entry["bytes_read"] += document.bytes
        document, changes = clean(document)
        for reason, count in changes.items():
            note_example(entry["changed"], reason, document.place, count)
        if self.domain:
            document = dataclasses.replace(document, domain=self.domain)
        pieces = [document] if whole or document.bytes <= LONG or not _can_cut(document) else list(cut(document))
        if len(pieces) > 1:
            entry["cut"]["documents"] += 1
            entry["cut"]["pieces"] += len(pieces)
        for piece in pieces:
            if found := self._unusable(piece):
                note_example(entry["dropped"], *found)
                continue
            if twin := self.twins.find_or_add(piece, self.key(piece)):
                if twin.reason:
                    note_example(entry["dropped"], twin.reason, twin.where)
                    continue
                piece = dataclasses.replace(piece, meta={**piece.meta, _WITH: twin.key})
            entry["kept"] += 1
            entry["bytes"] += piece.bytes
            yield piece

    def _unusable(self, document: Document) -> tuple[str, str] | None:
        """Return why a document is dropped, and where it stands; None where it can be used."""
        if len(document.text.strip()) < self.min_chars:
            return f"shorter than {self.min_chars} characters", document.place
        if document.messages and not any(m["role"] == "assistant" and m["content"] for m in document.messages):
            return "no assistant turn", document.place  # nothing to learn from
        return None

    def prepared(self, source: DataSource) -> Iterator[tuple[str, Document]]:
        """Yield what a prepared directory keeps; of two copies the one that must stay unseen."""
        path = Path(source.path).expanduser()
        entry = self.entry(source, Listing(source))
        entry["kind"] = "prepared"
        for split in reversed(SPLITS):
            entry["files"] += 1
            for document in read_split(path, split):
                weighted = dataclasses.replace(document, weight=document.weight * source.weight)
                for kept in self.accept(weighted, entry, whole=True):
                    yield split, kept

    def key(self, document: Document) -> str:
        return document.meta.get(_WITH) or split_key(document, self.split_by, alone=self.alone)

    def place(self, document: Document, by_hash: str) -> tuple[str, Document]:
        """Return a document with its split: what its file's name or its data set says, or else what the hash says."""
        split = document.meta.get("split")
        if split or _WITH in document.meta:
            meta = {key: value for key, value in document.meta.items() if key not in ("split", _WITH)}
            document = dataclasses.replace(document, meta=meta)
        if split:
            return split, document
        allowed = self.named.get(document.source, SPLITS)
        return by_hash if by_hash in allowed else allowed[0], document

    def cut_up(self, documents: list[Document]) -> list[Document]:
        """Cut the texts of a corpus that has too few names to be split."""
        self.alone = True
        result: list[Document] = []
        for document in documents:
            small = not _can_cut(document) or document.bytes <= LONG_IF_ALONE
            pieces = [document] if small else list(cut(document))
            if len(pieces) > 1:
                self.report["warnings"].append(
                    f"{document.source}: a lone long text was cut at blank lines into {len(pieces)} documents, "
                    "so that some can be held out"
                )
            result += pieces
        return result

    def count(self, split: str, document: Document) -> tuple[str, Document]:
        facts = self.report["splits"][split]
        facts["documents"] += 1
        facts["bytes"] += document.bytes
        return split, document

    def finish(self, *, seed: int, fractions: Sequence[float]) -> None:
        splits, sources = self.report["splits"], self.report["sources"]
        if not any(facts["documents"] for facts in splits.values()):
            reasons = sorted({reason for entry in sources for reason in entry["dropped"]})
            raise LifelongError(
                f"no document is left after cleaning (dropped: {', '.join(reasons) or 'nothing was read'})",
                where=", ".join(entry["path"] for entry in sources),
                fix="Give more text, or lower --min-chars, where the command has it.",
            )
        for name in ("gate", "test"):
            if not splits[name]["documents"] and fractions[SPLITS.index(name)] > 0:
                self.report["warnings"].append(
                    f"the {name} split is empty: too few documents to hold some out "
                    f"({len(SPLITS)} at least, or a text of more than {LONG_IF_ALONE // 1000} kB, which is cut)"
                )
        self.report["split"] = {
            "seed": seed,
            "fractions": list(fractions),
            "by": self.split_by,
        }


def _can_cut(document: Document) -> bool:
    return not document.messages and document.line is None and not piece_of(document.name)[1]


def note_example(counts: dict[str, Any], reason: str, example: str, count: int = 1) -> None:
    """Count something under its reason, and keep the first few examples."""
    entry = counts.setdefault(reason, {"count": 0, "examples": []})
    entry["count"] += count
    if len(entry["examples"]) < _EXAMPLES and example not in entry["examples"]:
        entry["examples"].append(example)
