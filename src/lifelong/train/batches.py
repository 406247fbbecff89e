"""Batches of one's own, as `create_dataloaders` makes them, in the form that the loop and the measures read."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Protocol

import numpy as np
import torch

from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score
from lifelong.model.base import LanguageModel
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import Batch
from lifelong.tokens.masking import Masking
from lifelong.tokens.pieces import spelled_bytes
from lifelong.tokens.rows import IGNORE
from lifelong.tokens.spans import Spans


class DataLoader(Protocol):
    """What `create_dataloaders` returns, and a torch ``DataLoader`` of the same dictionaries."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]: ...


class Reader:
    """Turns dictionaries of tensors into what a model is trained on.

    A causal model predicts at position t the label of t + 1. From a bidirectional one tokens are hidden, 15% as in
    `lifelong train --phase mlm`; an encoder-decoder model gets text with gaps, as in ``--phase seq2seq``. Where labels
    are not the ids, that has been done already, and batches stay as they are.

    Attributes:
        plain: whether the batch read last was plain text.
    """

    plain = False

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, seed: int) -> None:
        self._vocab_size, self._causal = model.config.vocab_size, model.config.causal
        self._masking = self._held_out = None
        self._spans = Spans.of(tokenizer, seed) if isinstance(model, EncoderDecoderModel) else None
        if (mask := model.config.mask_token_id) is not None:
            self._masking = Masking.of(tokenizer, mask, seed)
            self._held_out = Masking.of(tokenizer, mask, hidden=1.0, replaced=0.0)

    def read(self, given: Mapping[str, torch.Tensor], first: int | None = None) -> Batch:
        """Return a batch for the model.

        Args:
            given: ``input_ids`` and ``labels`` (batch, time) int64, and ``attention_mask``, 0 on padding, if any.
            first: number of the first row, on which the choice of hidden tokens depends; None for held-out text, in
                which they depend on the row's tokens alone.

        Raises:
            LifelongError: a key is missing, or a token is not of the vocabulary.
        """
        if missing := [key for key in ("input_ids", "labels") if key not in given]:
            raise LifelongError(
                f"a batch has no '{missing[0]}'", fix="Make the batches with create_dataloaders(...), or alike."
            )
        ids, labels = given["input_ids"], given["labels"]
        if int(ids.max()) >= self._vocab_size:
            raise LifelongError(
                f"a batch holds token {int(ids.max())}, the model knows {self._vocab_size}",
                fix="Make the batches with the model's own tokenizer: load_model_and_tokenizer(PATH)[1].",
            )
        if self._causal:
            last = torch.full_like(labels[:, :1], IGNORE)
            return Batch(ids, torch.cat([labels[:, 1:], last], dim=1))
        mask = given.get("attention_mask")
        padding = mask == 0 if mask is not None else labels == IGNORE if labels.shape == ids.shape else ids < 0
        whole = self.plain = ids.shape == labels.shape and torch.equal(
            labels.masked_fill(padding, 0), ids.masked_fill(padding, 0)
        )
        if self._spans is not None:
            return (
                self._with_gaps(ids, ~padding, first)
                if whole
                else Batch(ids, labels, None if mask is None else mask.long() - 1)
            )
        segments = -padding.long() if bool(padding.any()) and (whole or mask is not None) else None
        if whole:
            masking = self._masking if first is not None else self._held_out
            assert masking is not None  # `Trainer` gives every bidirectional model a mask token
            plain = ids.masked_fill(padding, masking.mask_id).numpy()  # which is never chosen
            if first is None:
                numbers = torch.tensor([zlib.crc32(row.astype("<u4").tobytes()) for row in plain])
            else:
                numbers = torch.arange(first, first + len(plain))
            hidden, chosen = masking.hide(plain, numbers.numpy())
            ids, labels = torch.from_numpy(hidden), torch.from_numpy(chosen)
        return Batch(ids, labels, segments)

    def _with_gaps(self, ids: torch.Tensor, real: torch.Tensor, first: int | None) -> Batch:
        assert self._spans is not None
        read, write = [], []
        for row, (tokens, here) in enumerate(zip(ids.numpy(), real.numpy(), strict=True)):
            text = tokens[None, here]
            if text.shape[1] < 2:  # nothing can be taken out
                text = np.concatenate([text, np.full((1, 2 - text.shape[1]), self._spans.end_id)], axis=1)
            number = zlib.crc32(text.astype("<u4").tobytes()) if first is None else first + row
            inputs, targets = self._spans.corrupt(text, np.array([number]))
            read.append(torch.from_numpy(inputs[0]))
            write.append(torch.from_numpy(targets[0]))
        segments = [torch.zeros_like(row) for row in read]
        return Batch(_pad(read, 0), _pad(write, IGNORE), _pad(segments, -1))


def _pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


class Rows:
    """Batches by step, as the loop asks for them; every epoch iterates over them anew."""

    def __init__(self, batches: DataLoader, reader: Reader) -> None:
        self._batches, self._reader = batches, reader
        self._left: Iterator[Mapping[str, torch.Tensor]] = iter(())
        self._seen = 0

    def batch(self, step: int) -> Batch:
        """Return the next batch; ``step`` counts up."""
        batch = self._reader.read(self._next(), self._seen)
        self._seen += len(batch.input_ids)
        return batch

    def peek(self) -> Batch:
        """Return the batch that comes next, which comes nevertheless."""
        given = self._next()
        self._left = chain([given], self._left)
        return self._reader.read(given, self._seen)

    def _next(self) -> Mapping[str, torch.Tensor]:
        if (given := next(self._left, None)) is None:
            self._left = iter(self._batches)
            given = next(self._left, None)
        if given is None:
            raise LifelongError("the batches cannot be iterated over twice", fix="Give a loader, not a generator.")
        return given


def score_batches(model: LanguageModel, tokenizer: Tokenizer, batches: DataLoader, reader: Reader) -> Score:
    """Return a model's score on held-out batches; each row counts as a document.

    Raises:
        LifelongError: no label counts.
    """
    device, was_training = next(model.parameters()).device, model.training
    spelled: dict[int, int] = {}
    documents: list[tuple[float, int]] = []
    tokens = correct = 0
    model.eval()
    try:
        for given in batches:
            batch = reader.read(given).to(device)
            losses, hits = model.token_losses(batch.input_ids, batch.labels, segment_ids=batch.segment_ids)
            tokens += int((batch.labels != IGNORE).sum())
            correct += int(hits.sum())
            for nats, labels in zip(losses.double().cpu().sum(1).tolist(), batch.labels.tolist(), strict=True):
                documents.append((nats, spelled_bytes(tokenizer, labels, spelled)))
    finally:
        model.train(was_training)
    if tokens == 0:
        raise LifelongError("the validation batches hold no token to predict", fix="Give more held-out text.")
    nats, size = math.fsum(nats for nats, _ in documents), sum(size for _, size in documents)
    return Score(nats, tokens, max(1, size), correct, tuple(item for item in documents if item[1]))
