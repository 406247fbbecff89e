"""`lifelong quickstart`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit


def quickstart(
    *,
    out: Annotated[Path, Parameter(help="Where everything goes.")] = Path("lifelong-quickstart"),
    minutes: Annotated[float, Parameter(help="How long it may take, about.")] = 5.0,
    seed: Annotated[int, Parameter(help="Seed of everything.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Build a model from Python's own documentation, teach it Python's source code, and see what it kept."""
    from lifelong.errors import LifelongError
    from lifelong.quickstart.story import run

    if minutes <= 0:
        raise LifelongError(f"--minutes {minutes:g} leaves no time", fix="Give at least 1.")
    # With --json, what the story tells people goes to standard error.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        result = run(out, minutes, seed)
    if as_json:
        emit(result, as_json=True)
