"""`lifelong rollback`."""

from __future__ import annotations

import shlex
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import WHOLE, AsJson, ChangedModel, emit


def rollback(
    model: ChangedModel,
    session: Annotated[
        int | None, WHOLE, Parameter(help="Undo this lesson and all after it (default: the last).")
    ] = None,
    *,
    to: Annotated[int | None, WHOLE, Parameter(help="Go to this state of `lifelong history` instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a model back, byte for byte, to where it was before a lesson, or at any state; the history gains a line."""
    from lifelong.learn.ledger import rollback as undo

    event = undo(model, session, to=to)

    def show() -> None:
        if to is None:
            print(f"Undone: {event['undone']}. The model is as it was before it.")
        else:
            print(f"The model is as it was at state {to}.")
        for line in event["also_undone"]:
            print(f"Undone{' with it' if to is None else ''}: {line}.")
        for line in event["back"]:
            print(f"Back again: {line}.")
        for source in event["back_again"]:
            again = shlex.join(["lifelong", "forget", str(model), "--source", source])
            print(f"Back again, as it was forgotten only later: {source} ({again}).")
        print(f"What was undone stays in the history: {shlex.join(['lifelong', 'history', str(model)])}")

    emit(event, as_json=as_json, show=show)
