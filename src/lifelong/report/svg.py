"""Charts as inline SVG. Colours come from the page's style sheet, so they follow its light or dark theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lifelong.report.markup import esc, percent, signed_class
from lifelong.report.series import Points, points, short, smooth, thin, ticks, view_limits

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 84, 16, 34
_STRIP = 30  # the learning-rate strip under the curve
_LABEL_ROOM = 150


def loss_chart(name: str, metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return a chart of one run: training and held-out bits per byte (or nats per token) and the learning rate.

    Empty when the run has no finite loss.
    """
    key, unit = ("bits_per_byte", "bits per byte") if points(metrics, "bits_per_byte") else ("loss", "nats per token")
    raw = points(metrics, key)
    if not raw:
        return ""
    held_out = thin(points(metrics, "gate_bits_per_byte"), 60) if key == "bits_per_byte" else []
    pale = thin(raw)
    trained = smooth(pale)
    plane = _Plane(raw[0][0], raw[-1][0], *view_limits(pale, trained, held_out))
    body = [plane.axes(unit), f'<path class="raw" d="{plane.path(pale)}"/>']
    body.append(f'<path class="train" d="{plane.path(trained)}"/>')
    ends = [("train", "training", trained[-1][1])]
    if held_out:
        body.append(f'<path class="gate" d="{plane.path(held_out)}"/>')
        for x, y in held_out:
            tip = f"<title>step {x:g}: {y:.3f} {unit} on held-out text</title>"
            body.append(f'<circle class="gate" cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" r="3">{tip}</circle>')
        ends.append(("gate", "held out", held_out[-1][1]))
    body.extend(_end_labels(plane, ends))
    rates = thin(points(metrics, "lr"), 200)
    height = _HEIGHT
    if len(rates) > 1 and max(y for _, y in rates) > 0:
        body.append(_rate_strip(plane, rates))
        height += _STRIP + 8
    label = f"{name}: training loss from {raw[0][1]:.3f} to {trained[-1][1]:.3f} {unit}"
    return _svg(_WIDTH, height, label, body)


def change_chart(groups: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Return bars of relative change from a middle line: better to the left, worse to the right.

    Args:
        groups: per domain, its name and (method, relative change) pairs; 0.1 = ten percent more bits per byte.
    """
    values = [value for _, rows in groups for _, value in rows]
    if not values:
        return ""
    low, high = min(0.0, *values), max(0.0, *values)
    left, right = _LABEL_ROOM + (62 if low < 0 else 8), _WIDTH - (64 if high > 0 else 16)
    scale = (right - left) / ((high - low) or 1.0)
    zero = left - low * scale
    compared = any(len(rows) > 1 for _, rows in groups)
    body, y = [], 8.0
    for domain, rows in groups:
        if compared:
            body.append(f'<text class="group" x="0" y="{y + 12:.0f}">{esc(_cut(domain, 60))}</text>')
            y += 22
        for index, (method, value) in enumerate(rows):
            end = zero + value * scale
            x, width = min(zero, end), max(abs(end - zero), 1.5)
            kind = f"{signed_class(value)} {'ours' if index == 0 else 'other'}"
            anchor, at = ("end", x - 6) if value < 0 else ("start", x + width + 6)
            title = f"<title>{esc(method)}: {percent(value)} on {esc(domain)}</title>"
            bar = f'class="bar {kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="19" rx="2"'
            number = f'class="value {kind}" x="{at:.1f}" y="{y + 14:.0f}" text-anchor="{anchor}"'
            body.append(
                f'<text class="method" x="12" y="{y + 14:.0f}">{esc(_cut(method if compared else domain, 22))}</text>'
            )
            body.append(f"<rect {bar}>{title}</rect><text {number}>{percent(value)}</text>")
            y += 25
        y += 10 if compared else 0
    body.insert(0, f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="4" y2="{y - 8:.0f}"/>')
    label = "; ".join(f"{domain}: " + ", ".join(f"{m} {percent(v)}" for m, v in rows) for domain, rows in groups)
    return _svg(_WIDTH, y, label, body)


def bar_chart(rows: Sequence[tuple[str, float, bool]]) -> str:
    """Return horizontal bars from zero: (label, bits per byte, whether it is the model's own)."""
    if not rows:
        return ""
    room = 246
    scale = (_WIDTH - room - 60) / (max(value for _, value, _ in rows) or 1.0)
    body = []
    for index, (label, value, own) in enumerate(rows):
        y, width, kind = index * 27 + 4, max(value * scale, 1.5), "own" if own else "plain"
        body.append(
            f'<text class="method {kind}" x="{room - 10}" y="{y + 14}" text-anchor="end">{esc(_cut(label, 38))}</text>'
        )
        body.append(f'<rect class="bar {kind}" x="{room}" y="{y}" width="{width:.1f}" height="19" rx="2"/>')
        body.append(f'<text class="value {kind}" x="{room + width + 6:.1f}" y="{y + 14}">{value:.2f}</text>')
    return _svg(_WIDTH, len(rows) * 27 + 6, "; ".join(f"{label}: {value:.3f}" for label, value, _ in rows), body)


def chance_meter(share: float, chance: float, error: float | None) -> str:
    """Return one bar of a share between 0 and 1 with a mark at chance and a whisker of one standard error."""
    width, y = _WIDTH, 20
    body = [f'<rect class="track" x="0" y="{y}" width="{width}" height="18" rx="2"/>']
    body.append(f'<rect class="bar own" x="0" y="{y}" width="{share * width:.1f}" height="18" rx="2"/>')
    if error:
        low, high = max(0.0, share - error) * width, min(1.0, share + error) * width
        body.append(
            f'<path class="whisker" d="M{low:.1f} {y + 9}H{high:.1f}M{low:.1f} {y + 5}v8M{high:.1f} {y + 5}v8"/>'
        )
    at = chance * width
    body.append(f'<line class="chance" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 5}" y2="{y + 23}"/>')
    body.append(f'<text class="method" x="{at:.1f}" y="11" text-anchor="middle">chance {100 * chance:.0f}%</text>')
    return _svg(width, 48, f"{100 * share:.1f}%, chance {100 * chance:.0f}%", body)


class _Plane:
    """Data coordinates on the drawing, with y limits kept."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self.x_low, self.x_high = x_low, x_high if x_high > x_low else x_low + 1
        self.y_low, self.y_high = y_low, y_high

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        inside = min(max(value, self.y_low), self.y_high)
        return _TOP + (self.y_high - inside) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, series: Points) -> str:
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in series)

    def axes(self, unit: str) -> str:
        lines = []
        for value in ticks(self.y_low, self.y_high, 5):
            y = self.y(value)
            lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
        floor = _HEIGHT - _BOTTOM
        for value in ticks(self.x_low, self.x_high, 5):
            place = f'x="{self.x(value):.1f}" y="{floor + 18}" text-anchor="middle"'
            lines.append(f'<text class="tick" {place}>{short(value)}</text>')
        lines.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>')
        lines.append(f'<text class="tick" x="{_LEFT - 8}" y="{floor + 18}" text-anchor="end">step</text>')
        lines.append(f'<text class="tick unit" x="{_WIDTH - _RIGHT}" y="{_TOP - 4}" text-anchor="end">{unit}</text>')
        return "".join(lines)


def _end_labels(plane: _Plane, ends: Sequence[tuple[str, str, float]]) -> list[str]:
    """Name the curves at their right ends, moved apart where they would touch and kept above the x axis."""
    placed = sorted((plane.y(value), kind, name, value) for kind, name, value in ends)
    x, room = _WIDTH - _RIGHT + 10, 32
    heights: list[float] = []
    for y, *_ in placed:
        heights.append(max(y + 2, heights[-1] + room if heights else 0.0))
    lift = max(0.0, heights[-1] + 16 - (_HEIGHT - _BOTTOM))
    return [
        f'<text class="end {kind}" x="{x}" y="{height - lift:.1f}"><tspan class="number">{value:.2f}</tspan>'
        f'<tspan x="{x}" dy="14">{name}</tspan></text>'
        for height, (_, kind, name, value) in zip(heights, placed, strict=True)
    ]


def _rate_strip(plane: _Plane, rates: Points) -> str:
    """Draw the learning rate as a low filled curve under the x axis."""
    base, peak = _HEIGHT + _STRIP, max(y for _, y in rates)
    line = "L".join(f"{plane.x(x):.1f} {base - y / peak * (_STRIP - 4):.1f}" for x, y in rates)
    first, last = plane.x(rates[0][0]), plane.x(rates[-1][0])
    note = f'<text class="tick" x="{_WIDTH - _RIGHT + 8}" y="{base - 13}">learning</text>'
    note += f'<text class="tick" x="{_WIDTH - _RIGHT + 8}" y="{base + 1}">rate ≤ {short(peak)}</text>'
    return f'<path class="rate" d="M{first:.1f} {base}L{line}L{last:.1f} {base}Z"/>{note}'


def _svg(width: float, height: float, label: str, body: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{esc(label)}">'
    return head + "".join(body) + "</svg>"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
