"""Opening a model directory for a session: threads, seed, device, the lock, and what a killed one left."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lifelong import progress
from lifelong.device import pick_device
from lifelong.learn.recovery import mention, recover
from lifelong.locks import writer_lock
from lifelong.model.store import HOME, ModelStore
from lifelong.settings.session import SessionSettings
from lifelong.tokens.checks import longest_row
from lifelong.train.start import LONGEST


@dataclass(frozen=True)
class Opened:
    """A model directory that this process alone writes to, and where the session's run goes."""

    store: ModelStore
    runs: Path
    device: torch.device


@contextlib.contextmanager
def opened(root: Path, settings: SessionSettings, *, dry_run: bool) -> Iterator[Opened]:
    """Open a model directory; a dry run writes into a temporary place, and leaves the directory as it is.

    Raises:
        LifelongError: another process is writing to it, there is no such device, or its memory is damaged.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    device = pick_device(settings.device)
    with contextlib.ExitStack() as stack:
        if dry_run:
            runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            stack.enter_context(writer_lock(root / HOME))
            runs = root
        store = ModelStore.open(root)
        if dry_run:
            mention(root)
        else:
            recover(store)
        store.check()
        yield Opened(store, runs, device)


def row_length(root: Path, settings: SessionSettings) -> int | None:
    """Return the tokens of a row: as set, or the model's own, `LONGEST` at most; None where it names no limit."""
    longest = longest_row(root)
    if settings.sequence_length is None and longest is not None and longest > LONGEST:
        progress.note(f"Rows of {LONGEST} tokens; the model takes {longest} (--sequence-length).")
        return LONGEST
    if settings.sequence_length and longest is not None and settings.sequence_length > longest:
        progress.note(f"note: rows of {longest} tokens, not {settings.sequence_length}: the model takes no more")
        return longest
    return settings.sequence_length or longest
