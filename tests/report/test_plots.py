from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.image import imread

from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import Matrix
from lifelong.report.plots import loss_curves, matrix_picture


def colours(path: Path) -> int:
    """How many different colours an image holds, roughly: one is a blank page."""
    pixels = imread(path)
    return len({tuple(pixel) for pixel in (pixels[::3, ::3, :3].reshape(-1, 3) * 15).round().tolist()})


def test_loss_curves_draw_something_the_same_each_time(tmp_path: Path, metrics: list[dict[str, Any]]) -> None:
    loss_curves(metrics, tmp_path / "a.png", title="Pretraining")
    loss_curves(metrics, tmp_path / "b.png", title="Pretraining")
    assert colours(tmp_path / "a.png") > 10
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("rows", [[{"step": 1, "loss": 2.0}], [{"step": s, "loss": 1.0, "lr": 0.0} for s in (1, 2)]])
def test_short_runs(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    loss_curves(rows, tmp_path / "short.png")
    assert colours(tmp_path / "short.png") > 1


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="no finite loss"):
        loss_curves([{"step": 1, "loss": float("nan")}], tmp_path / "x.png")
    with pytest.raises(LifelongError, match="empty"):
        matrix_picture(Matrix([], [], []), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_second_panel_makes_the_picture_wider(tmp_path: Path, guarded: Matrix, naive: Matrix) -> None:
    matrix_picture(guarded, tmp_path / "one.png")
    matrix_picture(guarded, tmp_path / "two.png", title="Two ways", beside=naive)
    assert imread(tmp_path / "two.png").shape[1] > imread(tmp_path / "one.png").shape[1] * 1.3


def test_forgetting_is_red_and_learning_is_green(tmp_path: Path) -> None:
    def share(bpb: float) -> tuple[float, float]:
        matrix_picture(Matrix(["a"], ["start", "b"], [[2.0], [bpb]]), tmp_path / "m.png")
        red, green = imread(tmp_path / "m.png")[..., :2].reshape(-1, 2).T
        return float((red - green > 0.2).mean()), float((green - red > 0.2).mean())

    assert share(3.0)[0] > 0.1 > share(3.0)[1]
    assert share(1.0)[1] > 0.1 > share(1.0)[0]
    assert max(share(2.0)) < 0.01


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    odd = Matrix(["$x^{", "a_b<c>"], ["start", "$x^{"], [[2.0, None], [1.0, 1.5]])
    matrix_picture(odd, tmp_path / "odd.png", title="50% of $y", beside=odd, labels=("$", "\\frac{"))
    assert colours(tmp_path / "odd.png") > 5


def test_the_callers_matplotlib_is_left_alone(tmp_path: Path, guarded: Matrix, metrics: list[dict[str, Any]]) -> None:
    before = dict(matplotlib.rcParams)
    matrix_picture(guarded, tmp_path / "m.png")
    loss_curves(metrics, tmp_path / "l.png")
    assert dict(matplotlib.rcParams) == before


def test_the_page_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; from lifelong.report.html import render_report; render_report(title='x'); "
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
