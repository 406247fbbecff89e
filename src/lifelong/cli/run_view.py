"""The end of a run at the command line: its pictures are drawn, and the result is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifelong import progress
from lifelong.cli.common import emit
from lifelong.settings.load import load_settings
from lifelong.settings.train import TrainSettings

if TYPE_CHECKING:
    from lifelong.train.job import TrainResult


_PLANNED = ("out", "parameters", "steps")  # what is known of a run that was not begun
_TEACH = "teach it more: lifelong learn {model} YOUR_FILES --domain NAME"
_NEXT = {
    "pretrain": 'Next: lifelong generate {model} --prompt "TEXT"; ' + _TEACH,
    "sft": "Next: lifelong chat {model}; " + _TEACH,
    "mlm": "Next: lifelong evaluate {model} --data YOUR_FILES",
    "seq2seq": 'Next: lifelong generate {model} --prompt "TEXT"',
}


def show_run(result: TrainResult, *, as_json: bool, dry_run: bool = False) -> None:
    """Draw ``plots/`` into the run's folder as its settings say, print the result, and name what can be done next.

    A dry run left no folder, and its estimate is printed already.
    """
    if dry_run:
        planned = {name: value for name, value in result.to_dict().items() if name in _PLANNED}
        emit(planned, as_json=as_json, show=lambda: None)
        return
    file = result.run / "resolved_settings.yaml"
    settings = load_settings(TrainSettings, file) if file.is_file() else None
    if settings is not None and settings.tracking.plots:
        from lifelong.report.run_pictures import draw_run
        from lifelong.train.folder import RunFolder

        title = f"{result.out.resolve().name}, {result.run.name}"
        draw_run(RunFolder(result.run).metrics(), result.run / "plots", title=title)
    emit(result.to_dict(), as_json=as_json)
    if settings is not None and not as_json:
        progress.note(_NEXT[settings.phase].format(model=result.out))
