"""The score of windows whose labels are single pieces of text: hidden tokens, or what a decoder has to write."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score
from lifelong.evaluate.windows import Window, tally_windows
from lifelong.tokens.pieces import spelled_bytes

if TYPE_CHECKING:
    from lifelong.evaluate.windows import Progress
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer


def windows_score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    windows: list[Window],
    owners: int,
    *,
    batch_tokens: int,
    progress: Progress | None,
) -> Score:
    """Return the nats of all labels, and the bytes that they spell, over ``owners`` documents.

    Raises:
        LifelongError: there is nothing to measure, or the loss is not finite.
    """
    if not windows:
        raise LifelongError("there is no text to evaluate on", fix="Give a source with at least one readable document.")
    sums = tally_windows(model, windows, owners, batch_tokens=batch_tokens, progress=progress)
    sizes = [0] * owners
    spelled: dict[int, int] = {}
    for window in windows:
        sizes[window.owner] += spelled_bytes(tokenizer, window.labels, spelled)
    return Score(
        nats=math.fsum(item.nats for item in sums),
        tokens=sum(item.tokens for item in sums),
        bytes=sum(sizes),
        correct=sum(item.correct for item in sums),
        documents=tuple((item.nats, size) for item, size in zip(sums, sizes, strict=True) if size),
    )
