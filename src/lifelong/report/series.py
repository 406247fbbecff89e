"""Preparing a run's metrics for drawing: finite points, smoothing, thinning, round tick values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Points = list[tuple[float, float]]


def points(metrics: Sequence[Mapping[str, Any]], key: str, x: str = "step") -> Points:
    """Return the ``(x, value)`` pairs of the rows that have both as finite numbers, in the rows' order.

    Where ``x`` starts again (a second phase in the same file) it goes on counting from where it was.
    """
    found: Points = []
    offset = last = 0.0
    for row in metrics:
        position = _finite(row.get(x))
        if position is None:
            continue
        if position < last:
            offset += last
        last = position
        if (value := _finite(row.get(key))) is not None:
            found.append((position + offset, value))
    return found


def smooth(series: Points) -> Points:
    """Return the series with each value replaced by that of a straight line through its nearest points.

    Local linear regression (Cleveland 1979, without weights). A moving average lags behind a falling curve and bends
    its ends; a line through the neighbours does neither. The neighbourhood grows from 3 points at the start, where the
    loss falls steeply, to an eighth of the series.
    """
    result = []
    for index, (x, _) in enumerate(series):
        count = min(len(series), max(3, min(index // 4, len(series) // 8)))
        start = min(max(0, index - count // 2), len(series) - count)
        near = series[start : start + count]
        mean_x, mean_y = (sum(values) / len(near) for values in zip(*near, strict=True))
        spread = sum((px - mean_x) ** 2 for px, _ in near)
        slope = sum((px - mean_x) * (py - mean_y) for px, py in near) / spread if spread else 0.0
        result.append((x, mean_y + slope * (x - mean_x)))
    return result


def thin(series: Points, limit: int = 300) -> Points:
    """Return at most ``limit`` points: means of neighbouring ones. The first and the last are kept as they are."""
    if len(series) <= limit:
        return list(series)
    inner, count = series[1:-1], limit - 2
    groups = [inner[i * len(inner) // count : (i + 1) * len(inner) // count] for i in range(count)]
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [series[0], *means, series[-1]]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round values (steps of 1, 2 or 5 times a power of ten) within ``[low, high]``."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def view_limits(raw: Points, *curves: Points) -> tuple[float, float]:
    """Return the y range that shows a loss curve well: all of ``curves``, and ``raw`` but for its highest 1%.

    One spike would otherwise press the rest of the curve flat.
    """
    values = sorted(y for _, y in raw)
    shown = [values[0], values[int(0.99 * (len(values) - 1))], *(y for curve in curves for _, y in curve)]
    low, high = min(shown), max(shown)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin


def short(value: float) -> str:
    """Return a number for an axis: 1.2M, 30k, 450, 2.5, 0.003, 3e-05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
