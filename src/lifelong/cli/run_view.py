"""The end of a run at the command line: its pictures are drawn, and the result is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifelong.cli.common import emit

if TYPE_CHECKING:
    from lifelong.train.job import TrainResult


def show_run(result: TrainResult, *, plots: bool, as_json: bool) -> None:
    """Draw ``plots/`` into the run's folder where ``plots`` is set, and print the result."""
    from lifelong.report.run_pictures import draw_run
    from lifelong.train.folder import RunFolder

    if plots:
        title = f"{result.out.resolve().name}, {result.run.name}"
        draw_run(RunFolder(result.run).metrics(), result.run / "plots", title=title)
    emit(result.to_dict(), as_json=as_json)
