"""`lifelong resume`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson
from lifelong.cli.run_view import show_run


def resume(
    run: Annotated[Path, Parameter(help="A run directory, or a model directory with an interrupted run.")],
    *,
    nproc: Annotated[int | None, Parameter(help="Processes that train together (default: as many as before).")] = None,
    as_json: AsJson = False,
) -> None:
    """Go on exactly where an interrupted run stopped, with the settings that it was started with."""
    from lifelong.train.following import follow, follows

    if follows():
        sys.exit(follow())
    from lifelong.train.run import resume as go_on

    show_run(go_on(run, nproc=nproc), as_json=as_json)
