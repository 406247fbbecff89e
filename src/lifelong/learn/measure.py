"""Measuring a model on the frozen slices of its domains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifelong import progress
from lifelong.evaluate.bits import Score, score
from lifelong.model.base import LanguageModel
from lifelong.text.document import Document
from lifelong.text.memory import read_slice
from lifelong.tokens.base import Tokenizer
from lifelong.train.founding import slice_path

Slices = dict[str, Sequence[Document]]


def read_slices(root: Path, domains: list[str], split: str) -> Slices:
    """Return the frozen ``split`` slice of each domain that has one with text in it."""
    found: Slices = {}
    for domain in domains:
        path = root / slice_path(domain, split)
        if path.is_file() and (documents := read_slice(path)):
            found[domain] = documents
    return found


def measure(
    model: LanguageModel, tokenizer: Tokenizer, slices: Slices, *, title: str, sequence_length: int, max_bytes: int
) -> dict[str, Score]:
    """Return the model's score on each slice, the model answering as it is."""
    scores = {}
    with progress.task(title, total=len(slices)) as shown:
        for number, (domain, documents) in enumerate(slices.items(), start=1):
            scores[domain] = score(model, tokenizer, documents, sequence_length=sequence_length, max_bytes=max_bytes)
            shown.update(done=number)
    return scores
