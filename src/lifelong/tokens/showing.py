"""A document as the loss sees it: its decoded text in spans, each trained on or not, special tokens visible."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer


class Span(NamedTuple):
    """Decoded text of neighbouring tokens that are all trained on or all not; or one special token."""

    text: str
    trained: bool
    special: bool


def encode_document(tokenizer: Tokenizer, document: Document) -> tuple[list[int], list[bool]]:
    """Return a document's ids and which of them are trained on, the end of text that follows it included."""
    if document.messages:
        ids, trained = tokenizer.encode_chat(document.messages)
        return [*ids, tokenizer.eos_id], [*trained, False]
    ids = tokenizer.encode(document.text)
    return [*ids, tokenizer.eos_id], [True] * (len(ids) + 1)


def spans(tokenizer: Tokenizer, ids: Sequence[int], trained: Sequence[bool]) -> list[Span]:
    """Return what token ids say, cut where the loss mask changes and around special tokens.

    Joined, the spans are the decoded text; where a cut goes through a character, its halves come out as U+FFFD.
    """
    special = {*tokenizer.role_token_ids, tokenizer.end_of_turn_id, tokenizer.eos_id}
    found: list[Span] = []
    # A special token is a span of its own, also beside another one: its place tells it apart.
    marks = [
        (mask, token in special, place if token in special else -1)
        for place, (token, mask) in enumerate(zip(ids, trained, strict=True))
    ]
    for (mask, is_special, _), group in groupby(zip(marks, ids, strict=True), key=lambda pair: pair[0]):
        text = tokenizer.decode([token for _, token in group], skip_special_tokens=False)
        found.append(Span(text, mask, is_special))
    return found
