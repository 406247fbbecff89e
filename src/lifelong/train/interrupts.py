"""Ctrl-C that waits for the end of a step, so that nothing is left half done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopFlag:
    """Set by the first Ctrl-C (or SIGTERM); a second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Take a signal."""
        # `torchrun` passes a Ctrl-C on to a process that the terminal has told already: that is no second one.
        if self.requested and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def graceful_interrupts() -> Iterator[StopFlag]:
    """Yield a flag that Ctrl-C sets. Outside the main thread signals cannot be caught, and it is never set."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
