"""From sources to a data set that is ready to train on: checked, prepared, with its tokenizer, cut to length."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.settings.prepare import PrepareSettings, TokenizerSettings
from lifelong.text.cutting import fit
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import FILES, PreparedWriter, StoredDocuments, stored_split
from lifelong.text.splitting import SPLITS
from lifelong.text.stream import Source, as_sources, note_example, stream_splits
from lifelong.text.twins import Twins
from lifelong.text.validation import Checker, ValidationReport
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.training import BESIDE, train_tokenizer

_BATCH = 1 << 20  # characters encoded at once
_SHOWN = 12  # lines of an error that names what is wrong with the data


def prepare_dataset(
    sources: Sequence[Source] | Source, out: Path, settings: PrepareSettings, *, dry_run: bool = False
) -> dict[str, Any]:
    """Write a prepared directory with everything that training wants, and return its report.

    The directory holds ``train.jsonl``, ``val.jsonl``, ``test.jsonl``, ``dataset_metadata.json`` and, unless the
    settings say otherwise, ``tokenizer/``. With ``dry_run`` all is done and nothing is kept.

    Raises:
        LifelongError: the data has errors (all are named, not only the first), no document is left, or ``out`` holds
            something else. Nothing is written then.
    """
    if settings.max_length and settings.tokenizer == "none":
        raise LifelongError(
            "max_length counts tokens, and there is no tokenizer", fix="Pass --tokenizer bpe, or a tokenizer directory."
        )
    given = [
        dataclasses.replace(source, kind=settings.format, format=None)
        if settings.format and not source.kind
        else source
        for source in as_sources(sources)
    ]
    with contextlib.ExitStack() as stack:
        if dry_run:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "out"
        writer = stack.enter_context(PreparedWriter(out))
        _write_documents(writer, given, settings)
        tokenizer = _tokenizer(writer, settings)
        if tokenizer is not None and settings.max_length:
            _fit(writer, tokenizer, settings)
        if tokenizer is not None:
            _count_tokens(writer, tokenizer)
        if settings.plain_text:
            for name in FILES.values():
                _write_plain(writer.folder / name)
        report = writer.report
    return report


def _write_documents(writer: PreparedWriter, sources: list[DataSource], settings: PrepareSettings) -> None:
    checker = Checker(near=False)  # twins do not come through
    with progress.task("Reading") as shown:
        stream = stream_splits(
            sources,
            domain=settings.domain or "",
            seed=settings.seed,
            fractions=settings.fractions,
            split_by=settings.split_by,
            min_chars=settings.min_chars,
            near_duplicates=settings.near_duplicates or None,
            report=writer.report,
            progress=shown,
            on_problem=checker.problem,
            on_document=checker.see,
        )
        for split, document in stream:
            writer.add(split, document)
    found = checker.report()
    if not found.ok and not settings.skip_bad:
        raise _bad_data(found)
    writer.report["validation"] = found.to_dict()
    writer.flush()


def _bad_data(found: ValidationReport) -> LifelongError:
    lines = [line for finding in found.errors for line in (finding.line(), f"  {finding.fix}") if line.strip()]
    if len(lines) > _SHOWN:
        lines = [*lines[:_SHOWN], "..."]
    return LifelongError(
        "the data has errors; nothing was written\n  " + "\n  ".join(lines),
        fix="Mend them, or pass --skip-bad to leave those rows out. `lifelong validate` shows every place.",
    )


def _tokenizer(writer: PreparedWriter, settings: PrepareSettings) -> Tokenizer | None:
    if settings.tokenizer == "none":
        return None
    tokenizer: Tokenizer
    if settings.tokenizer in ("bpe", "sentencepiece"):
        progress.note(f"Training a tokenizer ({settings.tokenizer}) on the train split.")
        wanted = TokenizerSettings.build({"kind": settings.tokenizer, "vocab_size": settings.vocab_size})
        tokenizer = train_tokenizer(stored_split(writer.folder, "train"), wanted)
    else:
        tokenizer = load_tokenizer(settings.tokenizer)
    tokenizer.save(writer.folder / BESIDE)
    writer.report["tokenizer"] = {"vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}
    return tokenizer


def _fit(writer: PreparedWriter, tokenizer: Tokenizer, settings: PrepareSettings) -> None:
    """Cut over-long prose into pieces, and shorten or drop over-long conversations; each piece stays in its split."""
    limit = settings.max_length or 0
    counts: dict[str, Any] = {}

    def measure(text: str) -> int:
        return len(tokenizer.encode(text))

    def fitted(document: Document) -> list[Document]:
        pieces = fit(document, measure, limit)
        if pieces != [document]:
            if document.messages and (not pieces or settings.over_long == "drop"):
                note_example(counts, "dropped", document.place)
                return []
            note_example(counts, "truncated" if document.messages else "cut", document.place)
        return [piece for piece in pieces if is_new(piece)]

    # Two long documents may share a section: of that, too, only the first is kept.
    twins = Twins(settings.near_duplicates or None)

    def is_new(piece: Document) -> bool:
        twin = twins.find_or_add(piece)
        if twin is None or not twin.reason:
            return True
        note_example(counts, f"{twin.reason} after cutting", twin.where)
        return False

    writer.rewrite(fitted)
    writer.report["lengths"] = {"max_length": limit, **counts}
    if not writer.report["splits"]["train"]["documents"]:
        raise LifelongError(f"no document fits into {limit} tokens", fix="Pass a larger --max-length.")


def _count_tokens(writer: PreparedWriter, tokenizer: Tokenizer) -> None:
    for split in SPLITS:
        total, batch, size = 0, [], 0
        for document in stored_split(writer.folder, split):
            batch.append(document.text)
            size += len(document.text)
            if size > _BATCH:
                total += int(tokenizer.encode_flat(batch)[1].sum())
                batch, size = [], 0
        total += int(tokenizer.encode_flat(batch)[1].sum()) if batch else 0
        writer.report["splits"][split]["tokens"] = total


def _write_plain(rows: Path) -> None:
    """Write a split as one text beside its rows: documents with a blank line between them."""
    with rows.with_suffix(".txt").open("w", encoding="utf-8", newline="\n") as file:
        for number, document in enumerate(StoredDocuments(rows)):
            file.write(("\n" if number else "") + spoken(document).rstrip("\n") + "\n")


def spoken(document: Document) -> str:
    """Return a document as plain text; a conversation with the speaker before each turn."""
    if not document.messages:
        return document.text
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in document.messages)
