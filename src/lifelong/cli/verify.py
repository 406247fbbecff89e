"""`lifelong verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, emit
from lifelong.cli.export import show_verification
from lifelong.settings.export import ExportSettings


def verify(
    export: Annotated[Path, Parameter(help="A directory that `lifelong export` wrote.")],
    model: Model,
    *,
    strings: Annotated[int, Parameter(help="Texts of which the token ids are compared.")] = 1500,
    tokens: Annotated[int, Parameter(help="Tokens of held-out text of which the probabilities are compared.")] = 500,
    as_json: AsJson = False,
) -> None:
    """Compare an export, in the program that it is for, with the trained model."""
    from lifelong.export.writing import verify_export

    settings = ExportSettings(strings=strings, tokens=tokens)
    found = verify_export(export, model, strings=settings.strings, tokens=settings.tokens)
    emit(found.to_dict(), as_json=as_json, show=lambda: show_verification(found))
