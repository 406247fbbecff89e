"""Image files of a run: loss curves, and the matrix as a heat map.

Figures are made without pyplot, so no backend, window or setting of the calling program is touched.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lifelong.errors import LifelongError
from lifelong.evaluate.growing import ANEW
from lifelong.evaluate.matrix import NOTICEABLE, Matrix
from lifelong.files import write_bytes
from lifelong.report.series import points, short, smooth, thin, view_limits

INK, SOFT, LINE, ACCENT, PALE, HELD = "#1c2128", "#636a75", "#e3e0d8", "#0e6f76", "#9cc9cb", "#b4690e"
_BETTER, _WORSE, _FULL_COLOUR = "#2f9c91", "#e0654a", 0.4
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Segoe UI", "Roboto", "Liberation Sans", "Arial", "DejaVu Sans"],
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name with dollar signs is a name
    "figure.constrained_layout.wspace": 0.08,
}


def loss_curves(metrics: Sequence[Mapping[str, Any]], out: Path, *, title: str = "") -> None:
    """Write a PNG of a run: training and held-out loss above, learning rate below, over the steps.

    The loss is in bits per byte where the rows have ``bits_per_byte``, else in nats per token.

    Raises:
        LifelongError: the rows hold no finite loss, or the disk refused the write.
    """
    key, unit = ("bits_per_byte", "bits per byte") if points(metrics, "bits_per_byte") else ("loss", "nats per token")
    raw = points(metrics, key)
    if not raw:
        raise LifelongError("the metrics hold no finite loss to draw", fix="Look at metrics.jsonl of the run.")
    held_out = points(metrics, "gate_bits_per_byte") if key == "bits_per_byte" else []
    rates = points(metrics, "lr")
    with matplotlib.rc_context(STYLE):
        heights = [4, 1] if rates else [1]
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        upper = axes[0][0]
        pale = thin(raw, 600)
        trained = smooth(pale)
        upper.plot(*zip(*pale, strict=True), color=PALE, linewidth=0.8, alpha=0.8)
        upper.plot(*zip(*trained, strict=True), color=ACCENT, linewidth=2)
        end_label(upper, trained[-1], "training", ACCENT, above=not held_out or trained[-1][1] >= held_out[-1][1])
        if held_out:
            upper.plot(*zip(*held_out, strict=True), color=HELD, linewidth=1.5, marker="o", markersize=4)
            end_label(upper, held_out[-1], "held out", HELD, above=held_out[-1][1] > trained[-1][1])
        upper.set_ylim(*view_limits(pale, trained, held_out))
        upper.set_ylabel(unit)
        upper.grid(axis="y", color=LINE, linewidth=0.8)
        if title:
            upper.set_title(title, loc="left", fontweight="bold", fontsize=13, pad=12)
        if rates:
            axes[1][0].fill_between(*zip(*thin(rates, 600), strict=True), color=LINE, linewidth=0)
            axes[1][0].set_ylim(bottom=0)
            axes[1][0].set_ylabel("learning\nrate")
            axes[1][0].yaxis.set_major_formatter(lambda value, _: short(value))
        for axis in axes[:, 0]:
            axis.tick_params(length=0)
            axis.set_axisbelow(True)
        axes[-1][0].set_xlabel("step")
        axes[-1][0].xaxis.set_major_formatter(lambda value, _: short(value))
        save(figure, out)


def matrix_picture(
    matrix: Matrix,
    out: Path,
    title: str = "Bits per byte on held-out text",
    beside: Matrix | None = None,
    labels: tuple[str, str] = ("lifelong", "naive fine-tuning"),
) -> None:
    """Write a PNG of a matrix as a heat map: bits per byte, and the change, which gives the colour.

    ``beside`` is drawn as a second panel to compare with; ``labels`` name the two panels. A ring marks the domain that
    a session taught. A joint model is one more row, without a change.

    Raises:
        LifelongError: the matrix is empty, or the disk refused the write.
    """
    if not matrix.sessions or not matrix.domains:
        raise LifelongError("the matrix is empty: there is nothing to draw")
    panels = [matrix] if beside is None else [matrix, beside]
    columns, rows = max(len(one.domains) for one in panels), max(len(_rows(one)) for one in panels)
    width = len(panels) * (1.25 * columns + 0.5) + 0.9
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(width, 4.2), 0.82 * rows + 1.75), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)
        for index, (one, axis) in enumerate(zip(panels, axes[0], strict=True)):
            _panel(
                axis,
                one,
                labels[index] if beside is not None else "",
                rows_labelled=index == 0 or one.sessions != matrix.sessions,
            )
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=13)
        figure.supxlabel(
            "Lower is better. Colour and percentage: change since taught,\n"
            "or else first measured. Ring: the domain just taught.",
            x=0.02,
            ha="left",
            fontsize=8.5,
            color=SOFT,
        )
        save(figure, out)


def _rows(matrix: Matrix) -> list[tuple[str, list[float | None]]]:
    """Return the names of all rows, the joint model's last, and their cells."""
    names = [name if i == 0 or name == ANEW else f"after {name}" for i, name in enumerate(matrix.sessions)]
    rows = list(zip(names, matrix.bpb, strict=True))
    return rows if matrix.joint is None else [*rows, ("joint model", matrix.joint)]


def _panel(axis: Axes, matrix: Matrix, label: str, *, rows_labelled: bool) -> None:
    rows = _rows(matrix)
    for i, (_, cells) in enumerate(rows):
        session = i < len(matrix.sessions)
        for j, domain in enumerate(matrix.domains):
            value, change = cells[j], matrix.change(i, j) if session else None
            strength = (
                0.0 if change is None or abs(change) <= NOTICEABLE else min(1.0, 0.1 + abs(change) / _FULL_COLOUR)
            )
            full = to_rgb(_WORSE if (change or 0) > 0 else _BETTER)
            face = tuple(0.955 + (part - 0.955) * strength * 0.8 for part in full)
            taught = session and i > 0 and matrix.sessions[i] == domain
            axis.add_patch(
                FancyBboxPatch(
                    (j - 0.44, i - 0.42),
                    0.88,
                    0.84,
                    boxstyle="round,pad=0,rounding_size=0.07",
                    facecolor=face,
                    edgecolor=INK if taught else face,
                    linewidth=1.6 if taught else 0,
                )
            )
            shown = "–" if value is None else f"{value:.3f}"
            axis.text(
                j,
                i - (0.09 if change is not None else 0),
                shown,
                ha="center",
                va="center",
                fontweight="bold",
                fontsize=13,
            )
            if change is not None:
                note = f"{100 * change:+.1f}%".replace("-", "−")
                axis.text(j, i + 0.2, note, ha="center", va="center", fontsize=10)
    axis.set(xlim=(-0.5, len(matrix.domains) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axis.xaxis.tick_top()
    axis.set_xticks(range(len(matrix.domains)), matrix.domains)
    axis.set_yticks(range(len(rows)), [name if rows_labelled else "" for name, _ in rows])
    axis.tick_params(length=0, labelsize=11)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if label:
        axis.set_title(label, fontsize=12, fontweight="bold", color=ACCENT if rows_labelled else SOFT, pad=10)


def end_label(axis: Axes, end: tuple[float, float], name: str, colour: str, *, above: bool) -> None:
    """Write a curve's name and last value at its end."""
    axis.annotate(
        f"{name} {end[1]:.2f}",
        end,
        xytext=(0, 10 if above else -10),
        textcoords="offset points",
        color=colour,
        ha="right",
        va="bottom" if above else "top",
        fontweight="bold",
    )


def save(figure: Figure, out: Path) -> None:
    """Write a figure as PNG."""
    buffer = io.BytesIO()
    # No time or version in the file: the same numbers give the same bytes.
    figure.savefig(
        buffer,
        format="png",
        dpi=160,
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.2,
        metadata={"Software": None},
    )
    write_bytes(out, buffer.getvalue())
