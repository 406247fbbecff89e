"""`lifelong rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, emit


def rollback(
    model: Model,
    session: Annotated[int | None, Parameter(help="Undo this lesson and all after it (default: the last).")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Put a model back, byte for byte, to where it was before a lesson; the history gains a line."""
    from lifelong.learn.ledger import rollback as undo

    done = undo(model, session)
    emit(done, as_json=as_json, show=lambda: print(_said(model, done)))


def _said(model: Path, done: dict[str, Any]) -> str:
    return (
        f"Lesson {done['undone_session']} ({done['domain']}) and all after it are undone: {model} is as it was in "
        f"state {done['to']}.\nWhat was undone stays in the history: lifelong history {model}"
    )
