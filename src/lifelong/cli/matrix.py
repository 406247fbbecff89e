"""`lifelong matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, emit


def matrix(
    model: Model,
    *,
    png: Annotated[Path | None, Parameter(help="Also draw it into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bits per byte on every domain's test text, after every lesson; row 0 is before any."""
    from lifelong.learn.ledger import read_matrix

    found = read_matrix(model)
    if png is not None:
        from lifelong.report.plots import matrix_picture

        matrix_picture(found, png)

    def show() -> None:
        from rich.console import Console

        Console().print(found.to_table())

    emit(found.to_dict(), as_json=as_json, show=show)
