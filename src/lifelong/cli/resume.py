"""`lifelong resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson
from lifelong.cli.run_view import show_run


def resume(
    run: Annotated[Path, Parameter(help="A run directory, or a model directory with an interrupted run.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Go on exactly where an interrupted run stopped, with the settings that it was started with."""
    from lifelong.settings.load import load_settings
    from lifelong.settings.train import TrainSettings
    from lifelong.train.run import resume as go_on

    result = go_on(run)
    settings = load_settings(TrainSettings, result.run / "resolved_settings.yaml")
    show_run(result, plots=settings.tracking.plots, as_json=as_json)
