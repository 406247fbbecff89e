"""`lifelong forget`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, ChangedModel, emit, spell_bytes


def forget(
    model: ChangedModel,
    *,
    source: Annotated[str, Parameter(help="A file or folder, as it was named when it was taught; or a text's name.")],
    purge: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="Leave no trace of its text: held-out documents, token caches and all earlier states go, too. "
            "Nothing before this can be rolled back to.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Drop a source: what is remembered of it, and the adapters taught with it alone. Says what stays."""
    from lifelong.learn.forgetting import forget as drop

    result = drop(model, source, purge=purge)

    def show() -> None:
        print(f"{result.examples:,} remembered examples of {result.source} are gone.")
        for name in result.adapters:
            print(f"The adapter '{name}' is gone.")
        if purge:
            print(f"{result.held_out:,} held-out documents of it are gone.")
            for name in result.models:
                print(f"The model {name}, which held its text, is gone.")
            print("All earlier states are gone: nothing before this can be rolled back to.")
            print(f"{spell_bytes(result.freed_bytes)} were freed.")
        for line in result.stays:
            print(f"Stays: {line}.")

    emit(result.to_dict(), as_json=as_json, show=show)
