"""Training tokenizers: from sources, with budgets, or for a data set, with as large a vocabulary as it supports."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong import progress
from lifelong.files import claim_output
from lifelong.settings.prepare import TokenizerSettings
from lifelong.text.document import Document
from lifelong.text.sampling import draw_sample
from lifelong.text.stream import Source
from lifelong.tokens.base import KIND, Tokenizer, VocabularyTooLarge
from lifelong.tokens.tokenizer import BPETokenizer

if TYPE_CHECKING:
    from lifelong.tokens.sentencepiece import SentencePieceTokenizer

BESIDE = "tokenizer"  # its folder in a prepared directory


def new_tokenizer(settings: TokenizerSettings) -> BPETokenizer | SentencePieceTokenizer:
    """Return an untrained tokenizer; raises LifelongError for a vocabulary that is too small."""
    if settings.kind == "sentencepiece":
        import_module("sentencepiece")  # the reading before it may be long: what is missing is said first
        from lifelong.tokens.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(settings.size, model_type=settings.model_type)
    return BPETokenizer(settings.size, min_frequency=settings.min_frequency)


def train_from_sources(
    sources: Sequence[Source], out: Path, settings: TokenizerSettings, *, dry_run: bool = False
) -> dict[str, Any]:
    """Train a tokenizer on the train split of sources, save it, and return what was drawn and what came out.

    Raises:
        LifelongError: the sources cannot be read, or hold too little text; or ``out`` holds something else.
    """
    claim_output(out, KIND)
    tokenizer = new_tokenizer(settings)  # before the reading: its own settings may be wrong
    with tempfile.TemporaryDirectory() as folder:
        with progress.task("Reading") as shown:
            sample = draw_sample(
                sources,
                Path(folder),
                seed=settings.seed,
                budgets=settings.budgets,
                max_bytes=settings.max_bytes,
                balance=settings.balance,
                progress=shown,
            )
        facts: dict[str, Any] = {"kind": settings.kind, "documents": sample.documents, "bytes": sample.bytes}
        facts |= {"sources": sample.report, "asked_vocab_size": settings.size}
        for name, part in sample.report.items():
            if part["bytes"] < part["available_bytes"]:
                drawn = f"{part['documents']:,} of {part['available_documents']:,} documents"
                progress.note(f"{name}: {drawn} were drawn.")
        if dry_run:
            return {"out": None, **facts}
        progress.note(f"Training on {progress.spell_count(sample.documents, 'document')}, {sample.bytes:,} bytes.")
        with progress.task("Learning", total=sample.documents) as shown:
            tokenizer.train(_counted(sample.texts(), shown))
    tokenizer.save(out)
    return {"out": str(out), **facts, "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}


def train_tokenizer(documents: Sequence[Document], settings: TokenizerSettings | None = None) -> Tokenizer:
    """Train a tokenizer on documents, with fewer tokens where they support no more.

    Raises:
        LifelongError: there is no text to learn from.
    """
    settings = settings or TokenizerSettings()
    try:
        return new_tokenizer(settings).train(document.text for document in documents)
    except VocabularyTooLarge as error:
        progress.note(f"The text supports {error.supported:,} tokens instead of {settings.size:,}.")
        smaller = settings.model_copy(update={"vocab_size": error.supported})
        return new_tokenizer(smaller).train(document.text for document in documents)


def _counted(texts: Iterable[str], shown: progress.Task) -> Iterator[str]:
    for text in texts:
        yield text
        shown.update(advance=1)
