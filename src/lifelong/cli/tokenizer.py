"""`lifelong tokenizer train` and `lifelong tokenizer show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from lifelong.cli.common import AsJson, DryRun, Sources, configurable, emit
from lifelong.settings.prepare import TokenizerSettings

app = App(name="tokenizer", help="Train a tokenizer, or show one.")


@app.command
@configurable(TokenizerSettings)
def train(
    sources: Sources,
    *,
    out: Annotated[Path, Parameter(help="The tokenizer directory to write.")],
    settings: TokenizerSettings,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a tokenizer on the train split of text; a folder of raw text is split first, so that tests stay unseen."""
    from lifelong import text
    from lifelong.files import claim_output
    from lifelong.progress import note
    from lifelong.tokens.tokenizer import BPETokenizer

    claim_output(out, "tokenizer")
    corpus = text.open_corpus(sources, seed=settings.seed)
    size = sum(document.bytes for document in corpus.train)
    facts = {"documents": len(corpus.train), "bytes": size, "asked_vocab_size": settings.vocab_size}
    if dry_run:
        emit({"out": None, **facts}, as_json=as_json)
        return
    note(f"Training on {len(corpus.train):,} documents, {size:,} bytes.")
    tokenizer = BPETokenizer(vocab_size=settings.vocab_size, min_frequency=settings.min_frequency)
    tokenizer.train(document.text for document in corpus.train)
    tokenizer.save(out)
    result = {"out": str(out), **facts, "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}
    emit(result, as_json=as_json)


@app.command
def show(
    path: Annotated[Path, Parameter(help="A tokenizer directory, its tokenizer.json, or a model directory.")],
    *,
    text: Annotated[str | None, Parameter(help="Show how this text is cut into tokens.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a tokenizer's size and special tokens, and how it cuts a text."""
    from lifelong.tokens.loading import load_tokenizer

    tokenizer = load_tokenizer(path)
    facts: dict[str, object] = {
        "vocab_size": tokenizer.vocab_size,
        "eos_id": tokenizer.eos_id,
        "pad_id": tokenizer.pad_id,
        "end_of_turn_id": tokenizer.end_of_turn_id,
        "fingerprint": tokenizer.fingerprint,
    }
    if text is not None:
        ids = tokenizer.encode(text)
        size = len(text.encode("utf-8"))
        facts |= {"tokens": len(ids), "bytes_per_token": size / len(ids) if ids else None, "ids": ids}
        facts["pieces"] = [tokenizer.decode([token], skip_special_tokens=False) for token in ids]
    emit(facts, as_json=as_json)
