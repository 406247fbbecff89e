"""What the server counts, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class Histogram:
    """How often a value, in seconds, was at most each of some bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[next((number for number, bound in enumerate(_BUCKETS) if value <= bound), len(_BUCKETS))] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Return its lines, the counts summed up."""
        found, seen = [], 0
        for bound, count in zip([*map(str, _BUCKETS), "+Inf"], self.counts, strict=True):
            seen += count
            found.append(f'{name}_bucket{{le="{bound}"}} {seen}')
        return [*found, f"{name}_sum {self.total:.6f}", f"{name}_count {seen}"]


class Metrics:
    """Requests by path and status, and how long texts took. Only paths that exist are counted by name."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.first_token, self.request = Histogram(), Histogram()

    def text(self, counters: Mapping[str, int], gauges: Mapping[str, int]) -> str:
        """Return all figures; ``counters`` and ``gauges`` are others' with their names."""
        lines = ["# TYPE lifelong_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'lifelong_requests_total{{path="{path}",status="{status}"}} {count}')
        for kind, figures in (("counter", counters), ("gauge", gauges)):
            for name, value in figures.items():
                full = f"lifelong_{name}_total" if kind == "counter" else f"lifelong_{name}"
                lines += [f"# TYPE {full} {kind}", f"{full} {value}"]
        for name, histogram in (("time_to_first_token", self.first_token), ("request", self.request)):
            lines += [f"# TYPE lifelong_{name}_seconds histogram", *histogram.lines(f"lifelong_{name}_seconds")]
        return "\n".join(lines) + "\n"
