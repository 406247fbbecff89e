"""`lifelong report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, emit


def report(
    place: Model,
    *,
    out: Annotated[
        Path | None, Parameter(help="The HTML file to write (default: NAME-report.html in the working directory).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained page: loss curves, the matrix, what the model was taught."""
    from lifelong.report.model_page import write_page

    found = write_page(place, out)
    emit(found, as_json=as_json, show=lambda: print(f"The report is in {found['page']}"))
