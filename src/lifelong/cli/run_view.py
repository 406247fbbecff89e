"""The end of a run at the command line: its pictures are drawn, and the result is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifelong.cli.common import emit
from lifelong.settings.load import load_settings
from lifelong.settings.train import TrainSettings

if TYPE_CHECKING:
    from lifelong.train.job import TrainResult


def show_run(result: TrainResult, *, as_json: bool) -> None:
    """Draw ``plots/`` into the run's folder as its settings say, and print the result. A dry run left no folder."""
    settings = result.run / "resolved_settings.yaml"
    if settings.is_file() and load_settings(TrainSettings, settings).tracking.plots:
        from lifelong.report.run_pictures import draw_run
        from lifelong.train.folder import RunFolder

        title = f"{result.out.resolve().name}, {result.run.name}"
        draw_run(RunFolder(result.run).metrics(), result.run / "plots", title=title)
    emit(result.to_dict(), as_json=as_json)
