"""A tokenizer for a data set, with as large a vocabulary as its text supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lifelong import progress
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer, VocabularyTooLarge
from lifelong.tokens.tokenizer import BPETokenizer

if TYPE_CHECKING:
    from lifelong.tokens.sentencepiece import SentencePieceTokenizer

BESIDE = "tokenizer"  # its folder in a prepared directory


def train_tokenizer(documents: Sequence[Document], *, kind: str = "bpe", vocab_size: int = 8000) -> Tokenizer:
    """Train a tokenizer (``bpe`` or ``sentencepiece``), with fewer tokens where the documents support no more.

    Raises:
        LifelongError: there is no text to learn from.
    """

    def texts() -> Iterator[str]:
        return (document.text for document in documents)

    try:
        return _new(kind, vocab_size).train(texts())
    except VocabularyTooLarge as error:
        progress.note(f"The text supports {error.supported:,} tokens instead of {vocab_size:,}.")
        return _new(kind, error.supported).train(texts())


def _new(kind: str, vocab_size: int) -> BPETokenizer | SentencePieceTokenizer:
    if kind == "sentencepiece":
        from lifelong.tokens.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer(vocab_size)
    return BPETokenizer(vocab_size)
