from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.report.series import points, short, smooth, thin, ticks, view_limits

SERIES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200).map(
    lambda values: [(float(index), value) for index, value in enumerate(values)]
)


def test_points_skip_what_is_not_a_finite_number() -> None:
    rows = [{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": math.nan}, {"loss": 1.0}, {"step": 4, "loss": 1}]
    assert points(rows, "loss") == [(1.0, 2.0), (4.0, 1.0)]


def test_a_second_phase_goes_on_where_the_first_stopped() -> None:
    rows = [{"step": step, "loss": 1.0} for step in (1, 2, 3, 1, 2, 1)]
    assert [x for x, _ in points(rows, "loss")] == [1, 2, 3, 4, 5, 6]


def test_a_straight_line_is_smooth_already() -> None:
    line = [(float(x), 5.0 - 0.1 * x) for x in range(100)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])


@given(SERIES)
def test_smoothing_keeps_the_positions(series: list[tuple[float, float]]) -> None:
    assert [x for x, _ in smooth(series)] == [x for x, _ in series]


@given(SERIES, st.integers(3, 50))
def test_thinning_keeps_the_ends_the_order_and_the_limit(series: list[tuple[float, float]], limit: int) -> None:
    thinned = thin(series, limit)
    assert len(thinned) == min(limit, len(series))
    assert thinned[0] == series[0]
    assert thinned[-1] == series[-1]
    assert [x for x, _ in thinned] == sorted(x for x, _ in thinned)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value in found)


def test_ticks_by_hand() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(130, 870) == [200, 400, 600, 800]
    assert ticks(3, 3) == [3]


def test_one_spike_does_not_press_the_curve_flat() -> None:
    series = [(float(x), 2.0) for x in range(200)]
    spiked = [*series[:100], (100.0, 50.0), *series[101:]]
    assert view_limits(spiked)[1] < 5


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (2.5, "2.5"), (1_200_000, "1.2M"), (30_000, "30k"), (0.003, "0.003"), (450, "450")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text
