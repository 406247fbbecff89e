"""A model before its held-out text: the frozen slices of its domains, and what each expert makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score, chosen_documents, encode_documents, panel_score
from lifelong.evaluate.matrix import Measuring
from lifelong.evaluate.routing import Panel, read_experts
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


@dataclass
class Held:
    """One domain's slice as a model reads it: its tokens, what every expert made of them, and the documents' bytes."""

    panel: Panel
    sizes: list[int]

    def score(self) -> Score:
        """Return the score of all experts that have read it, together."""
        return panel_score(self.panel, self.sizes)


Holdings = dict[str, Held]


def hold(tokenizer: Tokenizer, slices: Slices, how: Measuring) -> Holdings:
    """Encode slices, ready to be read. Domains without text that counts are left out."""
    found, length = {}, how.sequence_length
    assert length is not None  # who has a model knows how long its rows are
    for domain, documents in slices.items():
        if chosen := chosen_documents(documents, how.max_bytes):
            items = encode_documents(tokenizer, [document for document, _ in chosen])
            found[domain] = Held(Panel(items, length), [size for _, size in chosen])
    return found


def read_held(model: LanguageModel, holdings: Holdings, title: str) -> None:
    """Let every expert of the model read all slices."""
    with progress.task(title, total=len(holdings)) as shown:
        for number, held in enumerate(holdings.values(), start=1):
            read_experts(model, held.panel)
            shown.update(done=number)


def read_taught(model: LanguageModel, panel: Panel, name: str) -> None:
    """Let the model as it now computes, in a lesson, read a panel as the expert ``name``.

    Raises:
        LifelongError: the lesson has made its losses something else than finite numbers.
    """
    try:
        panel.read(model, name)
    except LifelongError as error:
        raise LifelongError(
            "after the lesson the model's loss is not a finite number; nothing of it is kept",
            fix="The model directory is as it was. Use a lower --learning-rate, or look at the text.",
        ) from error


def with_reading(model: LanguageModel, holdings: Holdings, name: str, title: str) -> Holdings:
    """Return the slices with one more reading: that of the model as it now computes, as the expert ``name``."""
    found = {}
    with progress.task(title, total=len(holdings)) as shown:
        for number, (domain, held) in enumerate(holdings.items(), start=1):
            panel = held.panel.copy()
            read_taught(model, panel, name)
            found[domain] = Held(panel, held.sizes)
            shown.update(done=number)
    return found


def scores(holdings: Holdings) -> dict[str, Score]:
    """Return the score on every slice."""
    return {domain: held.score() for domain, held in holdings.items()}
