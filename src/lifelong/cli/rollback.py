"""`lifelong rollback`."""

from __future__ import annotations

from typing import Annotated

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

    emit(undo(model, session), as_json=as_json)
