"""Measuring a bidirectional model: hidden tokens of held-out text, always the same ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score, chosen_documents
from lifelong.evaluate.pieces_score import windows_score
from lifelong.evaluate.windows import IGNORED, Window
from lifelong.tokens.masking import Masking

if TYPE_CHECKING:
    from lifelong.evaluate.windows import Progress
    from lifelong.model.base import LanguageModel
    from lifelong.text import Document
    from lifelong.tokens.base import Tokenizer


def masked_score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    sequence_length: int,
    batch_tokens: int = 4096,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Score:
    """Measure how well a model tells hidden tokens from those around them.

    Of every window 15% of the tokens of text, at least one, stand behind the mask token: all of them, other than in
    training, so that none is seen. Which ones depends on the window's own tokens alone, so that a text has the same
    score whatever is measured beside it. The score is over the hidden tokens: their nats, their number, and the UTF-8
    bytes that they spell. It cannot be compared with a causal model's, which sees only what stands before a token.

    Raises:
        LifelongError: the model has no mask token, there is nothing to measure, or the loss is not finite.
    """
    chosen = [document for document, _ in chosen_documents(documents, max_bytes)]
    windows = held_out_windows(model, tokenizer, chosen, sequence_length)
    return windows_score(model, tokenizer, windows, len(chosen), batch_tokens=batch_tokens, progress=progress)


def held_out_windows(
    model: LanguageModel, tokenizer: Tokenizer, documents: Sequence[Document], length: int
) -> list[Window]:
    """Return windows of at most ``length`` tokens in which something is hidden; an end-of-text stands at both ends.

    Raises:
        LifelongError: the model has no mask token.
    """
    if model.config.mask_token_id is None:
        raise LifelongError("the model has no mask token, so no token can be hidden from it")
    masking = Masking.of(tokenizer, model.config.mask_token_id, hidden=1.0, replaced=0.0)
    texts = iter(tokenizer.encode_batch([document.text for document in documents if document.messages is None]))
    found = []
    for owner, document in enumerate(documents):
        chat = document.messages
        inner = next(texts) if chat is None else tokenizer.encode_chat(chat)[0]
        ids = np.array([tokenizer.eos_id, *inner, tokenizer.eos_id], dtype=np.int64)
        for start in range(0, len(ids), length):
            window = ids[None, start : start + length]
            number = np.array([zlib.crc32(window.astype("<u4").tobytes())])
            inputs, labels = masking.hide(window, number)
            if (labels != IGNORED).any():
                found.append(Window(owner, inputs[0].tolist(), labels[0].tolist()))
    return found
