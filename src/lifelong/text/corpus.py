"""Read, clean, deduplicate and split; and the prepared directory that holds the result.

Nothing is dropped silently: the report counts every document that was read, kept or dropped, with the reason.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.text.cleaning import CUT_ABOVE, clean, content_hash, cut
from lifelong.text.document import BadInput, DataSource, Document
from lifelong.text.prepared import is_prepared, read_prepared, write_prepared
from lifelong.text.readers import Listing, list_files, read_file
from lifelong.text.sources import expand_sources
from lifelong.text.splitting import FEW_KEYS, SPLITS, assign, check_split, split_key

Source = DataSource | str | Path
# Called with (files done, files in all).
Progress = Callable[[int, int], None]
_EXAMPLES = 3


@dataclass(slots=True)
class Corpus:
    """Documents in three splits: *train* teaches, *gate* decides, *test* only reports.

    ``report`` holds the counts: per source what was read, kept and dropped (by reason, with examples), per split the
    documents and bytes, and warnings.
    """

    train: list[Document] = field(default_factory=list)
    gate: list[Document] = field(default_factory=list)
    test: list[Document] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> list[Document]:
        """Return the documents of ``train``, ``gate`` or ``test``."""
        if name not in SPLITS:
            raise LifelongError(f"unknown split '{name}'", fix=f"Splits: {', '.join(SPLITS)}.")
        documents: list[Document] = getattr(self, name)
        return documents


def build_corpus(
    sources: Sequence[Source] | Source,
    *,
    domain: str = "",
    seed: int = 0,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    split_by: str = "path",
    min_chars: int = 20,
    progress: Progress | None = None,
) -> Corpus:
    """Read sources into three splits, cleaned and without exact duplicates.

    The split of a document is a pure function of seed and name (see `splitting`), so text that is added later never
    moves a test document into training. A source that is a prepared directory keeps its own splits.

    Args:
        sources: files, globs, folders or prepared directories.
        domain: the name of this body of knowledge, written into every document.
        seed: of the split.
        fractions: shares of train, gate and test, by number of names.
        split_by: ``path`` (the path below the source's root; rows of a file each for itself) or ``name`` (the stem,
            which keeps ``json.decoder.md``, ``json.decoder.py`` and ``json.decoder.jsonl`` in one split).
        min_chars: shorter documents are dropped (a chat counts all its messages).
        progress: called with (files done, files in all).

    Raises:
        LifelongError: see `read_sources`; or nothing is left to train on.
    """
    check_split(fractions, split_by)
    given = expand_sources(_as_list(sources))
    if not given:
        raise LifelongError("no source of text was given", fix="Name at least one file or folder.")
    builder = _Builder(domain, min_chars)
    ready = [source for source in given if is_prepared(Path(source.path).expanduser())]
    raw = [(source, list_files(source)) for source in given if source not in ready]
    # Prepared splits first: a raw copy of one of their test documents is then dropped as a duplicate.
    for source in ready:
        builder.add_prepared(source)
    total, done = sum(len(listing.files) for _, listing in raw), 0
    kept: list[Document] = []
    for source, listing in raw:
        entry = builder.entry(source, listing)
        refuse = functools.partial(builder.refuse, entry)
        for file in listing.files:
            kept += filter(None, (builder.accept(document, entry) for document in read_file(file, refuse)))
            done += 1
            if progress:
                progress(done, total)
    corpus = builder.corpus
    kept = _cut_if_alone(kept, corpus.report, split_by)
    keys = [split_key(document, split_by, content_hash(document)) for document in kept]
    splits = assign(keys, fractions, seed)
    for document, key in zip(kept, keys, strict=True):
        corpus.split(splits[key]).append(document)
    _finish(corpus, keys=len(splits), seed=seed, fractions=fractions, split_by=split_by)
    return corpus


def prepare(sources: Sequence[Source] | Source, out: str | Path, **options: Any) -> Corpus:
    """Build a corpus and write it as a prepared directory; takes the options of `build_corpus`.

    Raises:
        LifelongError: as in `build_corpus`; or ``out`` holds something that is not a prepared directory.
    """
    from lifelong.files import claim_output

    claim_output(Path(out), "prepared")  # before the work, not after
    corpus = build_corpus(sources, **options)
    write_prepared(Path(out), {name: corpus.split(name) for name in SPLITS}, corpus.report)
    return corpus


def load_prepared(path: str | Path) -> Corpus:
    """Read a prepared directory, after checking it against its manifest.

    Raises:
        LifelongError: it is not a prepared directory, or a file is missing or changed.
    """
    splits, report = read_prepared(Path(path))
    return Corpus(**splits, report=report)


def open_corpus(sources: Sequence[Source] | Source, **options: Any) -> Corpus:
    """Return the corpus of a prepared directory as it is, or build one from raw sources."""
    listed = _as_list(sources)
    if len(listed) == 1 and not options.get("domain"):
        source = DataSource.parse(listed[0])
        if source.weight == 1.0 and is_prepared(Path(source.path).expanduser()):
            return load_prepared(Path(source.path).expanduser())
    return build_corpus(listed, **options)


def _as_list(sources: Sequence[Source] | Source) -> list[Source]:
    return [sources] if isinstance(sources, str | Path | DataSource) else list(sources)


class _Builder:
    """What building keeps in mind between documents: the hashes seen, and the counts."""

    def __init__(self, domain: str, min_chars: int) -> None:
        self.domain, self.min_chars = domain, min_chars
        self.seen: dict[str, str] = {}  # content hash -> the place that held it first
        self.corpus = Corpus(report={"sources": [], "warnings": []})

    def entry(self, source: DataSource, listing: Listing) -> dict[str, Any]:
        entry: dict[str, Any] = {"path": str(source.path), "kind": source.kind or "by suffix", "weight": source.weight}
        entry |= {"files": len(listing.files), "read": 0, "kept": 0, "bytes": 0, "dropped": {}}
        entry["skipped_files"] = {
            reason: {"count": count, "examples": listing.examples[reason]}
            for reason, count in listing.skipped.most_common()
        }
        self.corpus.report["sources"].append(entry)
        return entry

    def accept(self, document: Document, entry: dict[str, Any]) -> Document | None:
        """Clean a document, count it, and return it, or None where it is dropped."""
        entry["read"] += 1
        document = clean(document)
        if self.domain:
            document = dataclasses.replace(document, domain=self.domain)
        digest = content_hash(document)
        if reason := self._reason(document, digest):
            dropped = entry["dropped"].setdefault(reason, {"count": 0, "examples": []})
            dropped["count"] += 1
            if len(dropped["examples"]) < _EXAMPLES:
                first = f" (first seen in {self.seen[digest]})" if reason == "duplicate" else ""
                dropped["examples"].append(document.place + first)
            return None
        self.seen[digest] = document.place
        entry["kept"] += 1
        entry["bytes"] += document.bytes
        return document

    def refuse(self, entry: dict[str, Any], problem: BadInput) -> None:
        """Count a conversation without an answer as dropped; any other problem is the user's to put right."""
        if problem.rule != "no-assistant-turn":
            raise problem
        entry["read"] += 1
        dropped = entry["dropped"].setdefault("no assistant turn", {"count": 0, "examples": []})
        dropped["count"] += 1
        if len(dropped["examples"]) < _EXAMPLES:
            dropped["examples"].append(problem.where)

    def _reason(self, document: Document, digest: str) -> str | None:
        if len(document.text.strip()) < self.min_chars:
            return f"shorter than {self.min_chars} characters"
        return "duplicate" if digest in self.seen else None

    def add_prepared(self, source: DataSource) -> None:
        path = Path(source.path).expanduser()
        entry = self.entry(source, Listing(source)) | {"kind": "prepared"}
        self.corpus.report["sources"][-1] = entry
        splits, _ = read_prepared(path)
        # Test before gate before train: of two copies, the one that must stay unseen is kept.
        for name in reversed(SPLITS):
            entry["files"] += 1
            for document in splits[name]:
                weighted = dataclasses.replace(document, weight=document.weight * source.weight)
                if kept := self.accept(weighted, entry):
                    self.corpus.split(name).append(kept)


def _cut_if_alone(documents: list[Document], report: dict[str, Any], split_by: str) -> list[Document]:
    """Cut the long texts of a corpus that has too few names to be split."""
    if len({split_key(document, split_by, document.text) for document in documents}) >= len(SPLITS):
        return documents
    cut_up: list[Document] = []
    for document in documents:
        whole = document.messages or document.line is not None or document.bytes <= CUT_ABOVE
        pieces = [document] if whole else list(cut(document))
        if len(pieces) > 1:
            report["warnings"].append(
                f"{document.source}: a lone long text was cut at blank lines into {len(pieces)} documents, "
                "so that some can be held out"
            )
        cut_up += pieces
    return cut_up


def _finish(corpus: Corpus, *, keys: int, seed: int, fractions: Sequence[float], split_by: str) -> None:
    report = corpus.report
    documents = {name: corpus.split(name) for name in SPLITS}
    if not any(documents.values()):
        reasons = sorted({reason for entry in report["sources"] for reason in entry["dropped"]})
        raise LifelongError(
            f"no document is left after cleaning (dropped: {', '.join(reasons) or 'nothing was read'})",
            where=", ".join(entry["path"] for entry in report["sources"]),
            fix="Give more text, or lower min_chars.",
        )
    for name in ("gate", "test"):
        if not documents[name] and fractions[SPLITS.index(name)] > 0:
            report["warnings"].append(f"the {name} split is empty: too few documents to hold some out")
    report["splits"] = {
        name: {"documents": len(split), "bytes": sum(document.bytes for document in split)}
        for name, split in documents.items()
    }
    report["split"] = {
        "seed": seed,
        "fractions": list(fractions),
        "by": split_by,
        "keys": keys,
        "rule": "hash threshold" if keys >= FEW_KEYS else "rank by hash",
    }
