"""Cutting token sequences into windows and running them through a model in batches of about equal length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from torch import Tensor

    from lifelong.model.base import LanguageModel

IGNORED = -100
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """Token ids, and which of them are scored (never the first: nothing precedes it)."""

    ids: list[int]
    scored: list[bool]


@dataclass(slots=True)
class Tally:
    """Sums over the scored tokens of one sequence; ``blocks`` are the nats and tokens of its parts, where counted."""

    nats: float = 0.0
    tokens: int = 0
    correct: int = 0
    blocks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """What a model reads of sequence number ``owner`` at once, and the label of every position.

    ``start`` is the place of the first input in the sequence. Of an encoder-decoder model the labels are what it has to
    write, as many as there are.
    """

    owner: int
    inputs: list[int]
    labels: list[int]
    start: int = 0


def tally(
    model: LanguageModel,
    sequences: Sequence[Scored],
    *,
    sequence_length: int,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> list[Tally]:
    """Return the summed loss (nats), count and top-1 hits of every sequence's scored tokens.

    A sequence longer than ``sequence_length`` is cut into windows that do not overlap: the context restarts, and the
    first token of a window is predicted from the last of the window before, which is its only context. Windows of
    like length share a batch of at most ``batch_tokens`` positions; padding stands on the right, where a causal model
    cannot see it. ``progress(done, total)`` counts batches. A model with several experts answers as
    :mod:`lifelong.evaluate.routing` says.

    Raises:
        LifelongError: the model answers with a loss that is not a finite number.
    """
    if model.experts is not None:
        from lifelong.evaluate.routing import Panel, read_experts

        panel = Panel(sequences, sequence_length)
        read_experts(model, panel, progress=progress)
        return panel.tallies()
    windows = [window for owner, item in enumerate(sequences) for window in cut_windows(owner, item, sequence_length)]
    model.config.require_causal("tell what comes next")
    return tally_windows(model, windows, len(sequences), batch_tokens=batch_tokens, progress=progress)


def tally_windows(
    model: LanguageModel,
    windows: list[Window],
    owners: int,
    *,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> list[Tally]:
    """Return the sums over the labelled tokens of every owner's windows; see `tally`."""
    sums = [Tally() for _ in range(owners)]
    for window, losses, correct in read_windows(model, windows, batch_tokens=batch_tokens, progress=progress):
        mine = sums[window.owner]
        mine.nats += float(losses.sum())
        mine.correct += int(correct.sum())
        mine.tokens += sum(label != IGNORED for label in window.labels)
    _check_finite(sums)
    return sums


def read_windows(
    model: LanguageModel, windows: list[Window], *, batch_tokens: int = 4096, progress: Progress | None = None
) -> Iterator[tuple[Window, Tensor, Tensor]]:
    """Yield every window with the loss of each label (nats, double precision, 0 where ignored) and its top-1 hits."""
    batches = _batches(sorted(windows, key=lambda window: -len(window.inputs)), batch_tokens)
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for done, batch in enumerate(batches, start=1):
            width = len(batch[0].inputs)
            padding = [width - len(window.inputs) for window in batch]
            inputs = [window.inputs + [0] * pad for window, pad in zip(batch, padding, strict=True)]
            wide = max(len(window.labels) for window in batch)
            labels = [window.labels + [IGNORED] * (wide - len(window.labels)) for window in batch]
            # Where tokens look to the right, too, padding is a segment of its own.
            apart = not model.config.causal and any(padding)
            segments = [[0] * (width - pad) + [-1] * pad for pad in padding] if apart else None
            losses, correct = model.token_losses(
                torch.tensor(inputs, device=device),
                torch.tensor(labels, device=device),
                segment_ids=None if segments is None else torch.tensor(segments, device=device),
            )
            # Double precision, on the CPU: sums go over thousands of tokens, and some accelerators have no float64.
            for window, loss, hit in zip(batch, losses.cpu().double(), correct.cpu(), strict=True):
                size = len(window.labels)
                yield window, loss[:size], hit[:size]
            if progress is not None:
                progress(done, len(batches))
    finally:
        model.train(was_training)


def _check_finite(sums: Sequence[Tally]) -> None:
    """Raise LifelongError where a loss is not a finite number."""
    if not all(math.isfinite(item.nats) for item in sums):
        raise LifelongError(
            "the model's loss is not a finite number: its weights are damaged",
            fix="Go back to an earlier checkpoint (lifelong rollback), and train with a lower learning rate.",
        )


def cut_windows(owner: int, item: Scored, length: int) -> list[Window]:
    """Cut a sequence into windows of at most ``length`` inputs; those in which nothing is scored are left out."""
    targets = [token if scored else IGNORED for token, scored in zip(item.ids, item.scored, strict=True)]
    found = []
    for start in range(0, len(item.ids) - 1, length):
        labels = targets[start + 1 : start + 1 + length]
        if any(label != IGNORED for label in labels):
            found.append(Window(owner, item.ids[start : start + len(labels)], labels, start))
    return found


def _batches(windows: Sequence[Window], batch_tokens: int) -> list[list[Window]]:
    """Group windows, longest first, so that rows times the longest row stay within ``batch_tokens``."""
    batches: list[list[Window]] = []
    for window in windows:
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0].inputs) <= batch_tokens:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches
