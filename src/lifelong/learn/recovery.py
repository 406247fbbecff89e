"""Lessons that did not come to their end: what they leave is taken away, and what became of them is said."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from lifelong import progress
from lifelong.errors import Interrupted, LifelongError
from lifelong.files import disk_error
from lifelong.locks import is_locked
from lifelong.model.store import ModelStore
from lifelong.train.folder import RUNS, RunFolder

SETTINGS = "resolved_settings.yaml"
_AGAIN = "again"  # the fact of a lesson's run that holds the command which does it again


@contextlib.contextmanager
def recorded(run: RunFolder, verb: str, arguments: list[str]) -> Iterator[None]:
    """Record in a run how the lesson in the block ends, where it does not end well.

    Args:
        run: its folder.
        verb: of the command line, which with ``arguments`` and the run's settings does the same again.
        arguments: the model, and what it is taught.

    Raises:
        LifelongError: the disk refused a write.
    """
    command = shlex.join(["lifelong", verb, *arguments, "--config", str(run.path / SETTINGS)])
    run.record(status="running", **{_AGAIN: command})
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        with contextlib.suppress(LifelongError):  # a full disk takes no record either
            run.record(status="interrupted" if stopped else "failed", error=str(error))
        if isinstance(error, OSError):
            raise disk_error(error, run.path) from error
        raise


def recover(store: ModelStore) -> None:
    """Tidy up after lessons whose process was killed, and say once what became of them.

    Only for who holds the directory's lock: a lesson that still goes on holds it.
    """
    store.sweep()
    for run, what, status in _unfinished(store):
        run.record(status=status)
        progress.note(what)


def mention(root: Path) -> None:
    """Say what `recover` would of a model directory, and change nothing. For who only reads it.

    Nothing is said while a process writes to it. What is damaged is for its reader to say.
    """
    with contextlib.suppress(LifelongError, OSError, ValueError, TypeError):
        store = ModelStore(root)
        if not is_locked(store.home):
            for _, what, _ in _unfinished(store):
                progress.note(what)


def _unfinished(store: ModelStore) -> Iterator[tuple[RunFolder, str, str]]:
    """Yield the runs whose process was killed, with what became of them in words, and as a status."""
    committed = {event.get("run") for event in store.history()}
    for file in sorted((store.root / RUNS).glob("*/run.json")):
        run = RunFolder(file.parent)
        facts = run.facts
        if facts.get("status") != "running" or _AGAIN not in facts:
            continue
        name = run.path.relative_to(store.root).as_posix()
        if name in committed:
            yield run, f"{name} was cut off just after its outcome was recorded: see `lifelong history`.", "finished"
        else:
            yield run, f"{name} was cut off; nothing of it is in the model. To do it again: {facts[_AGAIN]}", "killed"
