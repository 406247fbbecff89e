"""Bits per byte: how many bits a model needs for each byte of a text, whatever its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from lifelong.evaluate.routing import Excess, Panel
    from lifelong.evaluate.windows import Progress, Scored, Tally
    from lifelong.model.base import LanguageModel
    from lifelong.text import Document
    from lifelong.tokens.base import Tokenizer

LONGEST_DEFAULT = 512


@dataclass(frozen=True)
class Score:
    """What a model needed for a set of documents.

    ``nats`` is the summed cross-entropy over ``tokens`` predicted tokens, ``bytes`` the UTF-8 bytes they spell,
    ``documents`` the nats and bytes of each document. ``blocks`` are those of parts of the documents, where they were
    counted; a part's bytes are its share of its document's, by tokens. Where several experts answer as one, ``experts``
    are the scores of each alone, and ``excess`` is what it cost that none of them was named.
    """

    nats: float
    tokens: int
    bytes: int
    correct: int
    documents: tuple[tuple[float, int], ...]
    experts: Mapping[str, Score] = field(default_factory=dict)
    excess: Excess | None = None
    blocks: tuple[tuple[float, float], ...] = ()

    @property
    def loss(self) -> float:
        """Cross-entropy in nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """Return e to the loss, per token: comparable only between models with the same tokenizer."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Cross-entropy in bits per UTF-8 byte: comparable between any two models, and with a compressor."""
        return self.nats / math.log(2) / self.bytes

    @property
    def token_accuracy(self) -> float:
        """Share of tokens that were the model's likeliest."""
        return self.correct / self.tokens

    @property
    def standard_error(self) -> float | None:
        """Standard error of the bits per byte over the choice of documents; None with fewer than two.

        A ratio of two sums: Cochran 1977, Sampling Techniques, 3rd edition, section 2.11, without the correction for
        a finite population. Documents, not tokens, are the independent draws.
        """
        count = len(self.documents)
        if count < 2:
            return None
        ratio = self.nats / self.bytes
        residuals = sum((nats - ratio * size) ** 2 for nats, size in self.documents)
        return math.sqrt(residuals * count / (count - 1)) / self.bytes / math.log(2)

    @property
    def oracle_bits_per_byte(self) -> float:
        """Bits per byte with each document under the expert that suits it best, which only hindsight knows."""
        bits = 0.0 if self.excess is None else math.fsum(self.excess.bits)
        return self.bits_per_byte - bits / self.bytes

    def to_dict(self) -> dict[str, Any]:
        """Return all measures as plain numbers, as ``lifelong evaluate --json`` prints them."""
        experts = {name: alone.bits_per_byte for name, alone in self.experts.items()}
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "standard_error": self.standard_error,
            "token_accuracy": self.token_accuracy,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "documents": len(self.documents),
            **({"experts": experts} if experts else {}),
            **(
                {"oracle_bits_per_byte": self.oracle_bits_per_byte, "routing": self.excess.to_dict()}
                if self.excess is not None
                else {}
            ),
        }


def scored_text(document: Document) -> str:
    """Return the part of a document that counts: all of a text, the assistant's turns of a chat (one per line)."""
    if document.messages is None:
        return document.text
    return "\n".join(turn["content"] for turn in document.messages if turn["role"] == "assistant")


def scored_bytes(document: Document) -> int:
    """Return the UTF-8 bytes of the part of a document that counts, without separators between turns."""
    if document.messages is None:
        return len(document.text.encode("utf-8"))
    return sum(len(turn["content"].encode("utf-8")) for turn in document.messages if turn["role"] == "assistant")


def score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    sequence_length: int | None = None,
    batch_tokens: int = 4096,
    max_bytes: int | None = None,
    fixed_share: float = 0.0,
    progress: Progress | None = None,
) -> Score:
    """Measure a model on documents, each on its own.

    A text is predicted from its first token on, with the end-of-text token before it as in training. Of a chat only
    the assistant's turns count: their contents and the token that ends each (so a model that does not stop pays for
    it), over the bytes of the contents. Documents in which nothing counts are left out.

    A model with several experts answers as :mod:`lifelong.evaluate.routing` says. A bidirectional one is measured on
    hidden tokens: see :func:`lifelong.evaluate.masked.masked_score`; an encoder-decoder model on what it has to write:
    see :func:`lifelong.evaluate.seq2seq.written_score`.

    Args:
        model: the model; its training mode is restored afterwards.
        tokenizer: the one it was trained with.
        documents: texts or chats.
        sequence_length: tokens of context; longer documents are cut into windows (see
            :func:`lifelong.evaluate.windows.tally`). Default: the model's, at most 512.
        batch_tokens: tokens in one forward pass.
        max_bytes: take whole documents in order until the next would exceed this; always at least one.
        fixed_share: of its weight that each of several experts gives to the others after every token.
        progress: called with (batches done, batches in all).

    Raises:
        LifelongError: there is nothing to score, the model's loss is not finite, or the share is out of range.
    """
    from lifelong.evaluate.routing import Panel, read_experts
    from lifelong.evaluate.windows import tally

    length = min(sequence_length or LONGEST_DEFAULT, model.config.max_seq_len)
    if not model.config.causal:
        from lifelong.evaluate.masked import masked_score
        from lifelong.evaluate.seq2seq import written_score
        from lifelong.model.seq2seq import EncoderDecoderModel

        measure = written_score if isinstance(model, EncoderDecoderModel) else masked_score
        return measure(
            model,
            tokenizer,
            documents,
            sequence_length=length,
            batch_tokens=batch_tokens,
            max_bytes=max_bytes,
            progress=progress,
        )
    chosen = chosen_documents(documents, max_bytes)
    if not chosen:
        raise LifelongError("there is no text to evaluate on", fix="Give a source with at least one readable document.")
    items, sizes = encode_documents(tokenizer, [document for document, _ in chosen]), [size for _, size in chosen]
    if model.experts is None:
        sums = tally(model, items, sequence_length=length, batch_tokens=batch_tokens, progress=progress)
        return score_of(sums, sizes)
    panel = Panel(items, length)
    read_experts(model, panel, progress=progress)
    return panel_score(panel, sizes, fixed_share=fixed_share)


def panel_score(panel: Panel, sizes: Sequence[int], *, fixed_share: float = 0.0) -> Score:
    """Return the score of a panel's experts together, with that of each alone beside it.

    Args:
        panel: documents that the experts have read.
        sizes: the bytes that count in each document.
        fixed_share: see `score`.
    """
    together = panel.tallies(fixed_share=fixed_share)
    whole = score_of(together, sizes)
    if len(panel.readings) == 1:
        return whole
    alone = {name: panel.tallies([name]) for name in panel.readings}
    experts = {name: score_of(sums, sizes) for name, sums in alone.items()}
    return replace(whole, experts=experts, excess=panel.excess(together, list(alone.values()), fixed_share))


def score_of(sums: Sequence[Tally], sizes: Sequence[int]) -> Score:
    """Return the score of documents with these sums and bytes."""
    return Score(
        nats=math.fsum(item.nats for item in sums),
        tokens=sum(item.tokens for item in sums),
        bytes=sum(sizes),
        correct=sum(item.correct for item in sums),
        documents=tuple((item.nats, size) for item, size in zip(sums, sizes, strict=True)),
        blocks=tuple(
            (nats, size * tokens / item.tokens)
            for item, size in zip(sums, sizes, strict=True)
            for nats, tokens in item.blocks
        ),
    )


def objective_of(model: LanguageModel) -> str:
    """Return what `score` measures: ``next token``, ``hidden tokens`` or ``written text``."""
    from lifelong.model.seq2seq import EncoderDecoderModel

    if isinstance(model, EncoderDecoderModel):
        return "written text"
    return "next token" if model.config.causal else "hidden tokens"


def chosen_documents(documents: Sequence[Document], max_bytes: int | None) -> list[tuple[Document, int]]:
    """Return the documents to measure and the bytes that count in each: whole ones, in order, up to ``max_bytes``."""
    chosen: list[tuple[Document, int]] = []
    total = 0
    for document in documents:
        size = scored_bytes(document)
        if not size:
            continue
        if max_bytes is not None and chosen and total + size > max_bytes:
            break
        chosen.append((document, size))
        total += size
    return chosen


def encode_documents(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[Scored]:
    """Return the token ids of each document, and which of them count."""
    from lifelong.evaluate.windows import Scored

    texts = iter(tokenizer.encode_batch([document.text for document in documents if document.messages is None]))
    encoded = []
    for document in documents:
        if document.messages is None:
            ids = next(texts)
            encoded.append(Scored([tokenizer.eos_id, *ids], [False] + [True] * len(ids)))
        else:
            encoded.append(Scored(*tokenizer.encode_chat(document.messages)))
    return encoded
