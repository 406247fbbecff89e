"""`lifelong matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, emit


def matrix(
    model: Model,
    *,
    joint: Annotated[
        Path | None,
        Parameter(help="Beside it a model trained on the text of all domains at once; measures intransigence."),
    ] = None,
    png: Annotated[Path | None, Parameter(help="Also draw it into this PNG file.")] = None,
    device: Annotated[str, Parameter(help="Where the joint model computes: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Bits per byte on every domain's test text, after every lesson; row 0 is before any."""
    from lifelong.learn.ledger import read_matrix

    if joint is None:
        found = read_matrix(model)
    else:
        from lifelong.learn.joint import matrix_beside_joint

        found = matrix_beside_joint(model, joint, device=device)
    if png is not None:
        from lifelong.report.plots import matrix_picture

        matrix_picture(found, png)

    def show() -> None:
        from rich.console import Console

        console = Console()
        for table in found.to_tables(console.width):
            console.print(table)

    emit(found.to_dict(), as_json=as_json, show=show)
