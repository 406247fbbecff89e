"""The image files that a run leaves in ``plots/``: loss, perplexity and learning rate over its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from lifelong.report.plots import ACCENT, HELD, INK, LINE, PALE, STYLE, end_label, loss_curves, save
from lifelong.report.series import Points, points, short, smooth, thin

_MOST = 50.0  # times the smallest perplexity: what lies higher, the first steps, is not shown


def draw_run(metrics: Sequence[Mapping[str, Any]], folder: Path, *, title: str = "") -> list[Path]:
    """Write ``loss.png``, ``perplexity.png`` and ``learning_rate.png``; returns those that there was something for.

    Raises:
        LifelongError: the disk refused a write.
    """
    written = []
    if points(metrics, "loss"):
        loss_curves(metrics, folder / "loss.png", title=title)
        _perplexity(metrics, folder / "perplexity.png", title)
        written += [folder / "loss.png", folder / "perplexity.png"]
    if rates := points(metrics, "lr"):
        _learning_rate(rates, folder / "learning_rate.png", title)
        written.append(folder / "learning_rate.png")
    return written


def _perplexity(metrics: Sequence[Mapping[str, Any]], out: Path, title: str) -> None:
    """Perplexity is e to the loss in nats per token: smoothed as loss, so that a line is the geometric mean."""
    pale = thin(points(metrics, "loss"), 600)
    trained = [(x, _exp(y)) for x, y in smooth(pale)]
    held_out = [(x, _exp(y)) for x, y in points(metrics, "gate_loss")]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axis = figure.subplots()
        axis.plot(*zip(*((x, _exp(y)) for x, y in pale), strict=True), color=PALE, linewidth=0.8, alpha=0.8)
        axis.plot(*zip(*trained, strict=True), color=ACCENT, linewidth=2)
        end_label(axis, trained[-1], "training", ACCENT, above=not held_out or trained[-1][1] >= held_out[-1][1])
        if held_out:
            axis.plot(*zip(*held_out, strict=True), color=HELD, linewidth=1.5, marker="o", markersize=4)
            end_label(axis, held_out[-1], "held out", HELD, above=held_out[-1][1] > trained[-1][1])
        shown = [y for _, y in [*trained, *held_out]]
        low = min(shown)
        axis.set_yscale("log")
        axis.set_ylim(low / 1.4, min(max(shown), _MOST * low) * 1.25)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(lambda value, _: short(value))
        axis.set_ylabel("perplexity per token")
        _finish(figure, out, title)


def _learning_rate(rates: Points, out: Path, title: str) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        axis = figure.subplots()
        axis.plot(*zip(*thin(rates, 600), strict=True), color=INK, linewidth=1.5)
        axis.set_ylim(bottom=0)
        axis.set_ylabel("learning rate")
        axis.yaxis.set_major_formatter(lambda value, _: short(value))
        _finish(figure, out, title)


def _finish(figure: Figure, out: Path, title: str) -> None:
    axis = figure.axes[0]
    if title:
        axis.set_title(title, loc="left", fontweight="bold", fontsize=13, pad=12)
    axis.grid(axis="y", color=LINE, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", length=0)
    axis.set_xlabel("step")
    axis.xaxis.set_major_formatter(lambda value, _: short(value))
    save(figure, out)


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))
