"""What long work shows of itself, on standard error.

On a terminal: a bar with the time left. Elsewhere (a log, a pipe): a plain line soon, so that nothing seems to hang,
then one now and then, so that a log stays short. Rich is imported only when something is shown.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Seconds before the first plain line of a task, and between two of them.
FIRST_LINE, PLAIN_INTERVAL = 5.0, 30.0

_FORMATS = {
    "loss": "loss {:.3f}",
    "bits_per_byte": "{:.3f} bpb",
    "tokens_per_second": "{:,.0f} tok/s",
    "learning_rate": "lr {:.2e}",
}

# The display on the terminal, shared by tasks inside tasks: rich allows one at a time.
_display: Progress | None = None
# The file that notes go to as well; see `log_to`.
_log: Path | None = None


class Task:
    """One piece of long work; made by `task`."""

    def __init__(self, title: str, total: float | None, display: Progress | None) -> None:
        self.title, self.total, self.done = title, total, 0.0
        self._facts: dict[str, float | str] = {}
        self._display = display
        self._row: TaskID | None = display.add_task(title, total=total, facts="") if display else None
        self._started = time.monotonic()
        self._next = self._started + FIRST_LINE  # when a plain line is due

    def update(
        self, done: float | None = None, *, advance: float = 0, total: float | None = None, **facts: float | str | None
    ) -> None:
        """Say how far the work is, and facts beside it: ``loss``, ``bits_per_byte``, ``tokens_per_second``, any text.

        A fact stays until it gets another value; None leaves it as it was.
        """
        self.done = self.done + advance if done is None else done
        self.total = self.total if total is None else total
        self._facts.update({name: value for name, value in facts.items() if value is not None})
        if self._display is not None and self._row is not None:
            self._display.update(self._row, completed=self.done, total=self.total, facts=self._describe())
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_INTERVAL
            print(self._line(), file=sys.stderr, flush=True)

    def __call__(self, done: float, total: float | None = None) -> None:
        """Say how far the work is: the form in which rooms below take their ``progress=`` argument."""
        self.update(done, total=total)

    def _describe(self) -> str:
        parts = []
        for name, value in self._facts.items():
            if isinstance(value, str):
                parts.append(f"{name.replace('_', ' ')} {value}")
            else:
                parts.append(_FORMATS.get(name, name.replace("_", " ") + " {:.4g}").format(value))
        return "  ".join(parts)

    def _line(self) -> str:
        spent = time.monotonic() - self._started
        if not self.total:
            done = f"{self.done:,.0f}, " if self.done else ""  # some work counts nothing
            head = f"{self.title}: {done}{spell_seconds(spent)} so far"
        else:
            left = spent * (self.total - self.done) / self.done if self.done else None
            rest = f", about {spell_seconds(left)} left" if left is not None else ""
            head = f"{self.title}: {self.done:,.0f} of {self.total:,.0f} ({self.done / self.total:.0%}){rest}"
        return "  ".join(part for part in (head, self._describe()) if part)

    def _close(self) -> None:
        if self._display is not None and self._row is not None:
            self._display.stop_task(self._row)
        elif time.monotonic() - self._started >= PLAIN_INTERVAL:
            spent = spell_seconds(time.monotonic() - self._started)
            facts = self._describe()
            print(f"{self.title}: done in {spent}{'  ' + facts if facts else ''}", file=sys.stderr, flush=True)


@contextmanager
def task(title: str, total: float | None = None) -> Iterator[Task]:
    """Show work while the block runs.

    As in ``with task("Pretraining", total=steps) as shown: shown.update(done=step, loss=loss)``. Tasks may be nested;
    an inner one gets a row of its own.
    """
    global _display
    if _display is not None or not _draws():
        work = Task(title, total, _display)
        try:
            yield work
        finally:
            work._close()
            if _display is not None and work._row is not None:
                _display.remove_task(work._row)
        return
    with _make_display() as display:
        _display = display
        try:
            work = Task(title, total, display)
            yield work
        finally:
            work._close()
            _display = None


def _draws() -> bool:
    """Whether standard error is a terminal on which a bar can be drawn; on a dumb one rich shows nothing at all."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _make_display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24 if console.width >= 100 else 10),
        MofNCompleteColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(compact=True),
        # On a narrow terminal the last facts are cut, not the line wrapped.
        TextColumn("{task.fields[facts]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
        console=console,
    )


def note(text: str) -> None:
    """Print a line for the user on standard error, above a bar that is running; also into the log file."""
    record(text)
    if _display is not None:
        _display.console.print(text, markup=False, highlight=False)
    else:
        print(text, file=sys.stderr, flush=True)


def record(text: str) -> None:
    """Write a line into the log file only, with the time; nothing where no log is open."""
    if _log is not None:
        with _log.open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')}  {text}\n")


@contextmanager
def log_to(file: Path) -> Iterator[None]:
    """Keep every note of the block in a log file too, and how the block ended where an error ended it."""
    global _log
    before, _log = _log, file
    try:
        yield
    except BaseException as error:
        record(f"stopped: {error or type(error).__name__}")
        raise
    finally:
        _log = before


def spell_count(count: int, noun: str) -> str:
    """Return a count of things: ``1 document``, ``2,000 documents``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def spell_seconds(seconds: float) -> str:
    """Return a span of time as people say it: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
