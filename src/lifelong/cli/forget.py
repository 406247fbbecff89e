"""`lifelong forget`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, emit


def forget(
    model: Model,
    *,
    source: Annotated[str, Parameter(help="A file or folder, as it was named when it was taught.")],
    as_json: AsJson = False,
) -> None:
    """Drop a source: what is remembered of it, and the adapters taught with it alone. Says what stays."""
    from lifelong.learn.domains import forget as drop

    result = drop(model, source)

    def show() -> None:
        print(f"{result.examples:,} remembered examples of {result.source} are gone.")
        for name in result.adapters:
            print(f"The adapter '{name}' is gone.")
        for line in result.stays:
            print(f"Stays: {line}.")

    emit(result.to_dict(), as_json=as_json, show=show)
