"""Measuring an encoder-decoder model: what it has to write for held-out text, always the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lifelong.evaluate.bits import Score, chosen_documents
from lifelong.evaluate.pieces_score import windows_score
from lifelong.evaluate.windows import Window
from lifelong.tokens.pairs import answers
from lifelong.tokens.spans import Spans

if TYPE_CHECKING:
    from lifelong.evaluate.windows import Progress
    from lifelong.model.base import LanguageModel
    from lifelong.text import Document
    from lifelong.tokens.base import Tokenizer


def written_score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    sequence_length: int,
    batch_tokens: int = 4096,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Score:
    """Measure how well a model writes what it has to: the answers of chats, and the gaps of texts.

    Of every window of a text 15% of the tokens are taken out in spans, which depend on the window's own tokens alone.
    The score is over all that the decoder writes: nats and tokens include the sentinels before the spans and the end
    (so a model that does not know where to stop pays for it); bytes are those of the spans, or of the answers. It
    cannot be compared with a causal model's, which sees only what stands before a token.

    Raises:
        LifelongError: there is nothing to measure, or the loss is not finite.
    """
    chosen = [document for document, _ in chosen_documents(documents, max_bytes)]
    windows = held_out_windows(tokenizer, chosen, sequence_length)
    return windows_score(model, tokenizer, windows, len(chosen), batch_tokens=batch_tokens, progress=progress)


def held_out_windows(tokenizer: Tokenizer, documents: Sequence[Document], length: int) -> list[Window]:
    """Return what is read, at most ``length`` tokens of text or prompt, and what is to be written."""
    spans = Spans.of(tokenizer)
    found = []
    texts = iter(tokenizer.encode_batch([document.text for document in documents if document.messages is None]))
    for owner, document in enumerate(documents):
        if document.messages is not None:
            chat, trained = tokenizer.encode_chat(document.messages)
            for begin, end in answers(np.array(trained)):
                read, write = chat[max(0, begin - length) : begin], chat[begin : min(end, begin + length)]
                found.append(Window(owner, read, write))
            continue
        ids = np.array(next(texts), dtype=np.int64)
        for start in range(0, len(ids) - 1, length):  # of a single token nothing can be taken out
            window = ids[None, start : start + length]
            if window.shape[1] > 1:
                number = np.array([zlib.crc32(window.astype("<u4").tobytes())])
                inputs, targets = spans.corrupt(window, number)
                found.append(Window(owner, inputs[0].tolist(), targets[0].tolist()))
    return found
