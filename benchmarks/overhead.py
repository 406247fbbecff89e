"""What evaluating and saving cost a run: the share of its time that is not spent in steps. Target: under 3%.

A run of `lifelong train` on the sources of Python's standard library. Checkpoints come more often than by default, so
that a run of two minutes has some; what each of them, each measure of held-out text and each saving of the best model
costs is then put together for longer runs at the default intervals: ten measures at most, or fewer that take 2% of
the run, one at the end, each taken to be the best so far, and a checkpoint every ten minutes. To measure one of
these runs whole: `--minutes 25 --checkpoint-minutes 10`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import library_corpus, machine, print_table, write_json


def main() -> None:
    """Train, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--minutes", type=float, default=2.0, help="of the run that is measured")
    parser.add_argument("--checkpoint-minutes", type=float, default=0.5, help="between its checkpoints")
    parser.add_argument("--runs", type=float, nargs="+", default=[10, 25, 60, 240], help="minutes of the longer runs")
    parser.add_argument("--corpus-bytes", type=int, default=6_000_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()

    from lifelong.settings.train import TrainSettings
    from lifelong.train.drive import Drive
    from lifelong.train.folder import RunFolder
    from lifelong.train.job import Job
    from lifelong.train.keeper import Keeper
    from lifelong.train.run import train

    spent: dict[str, list[float]] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                spent.setdefault(name, []).append(time.perf_counter() - start)

        return call

    Drive._save = timed("checkpoints", Drive._save)  # type: ignore[method-assign]
    Job.measure = timed("held-out text", Job.measure)  # type: ignore[method-assign]
    Keeper.best = timed("best model", Keeper.best)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as work:
        library_corpus(Path(work), options.corpus_bytes)
        checkpoint = {"every_minutes": options.checkpoint_minutes}
        settings = TrainSettings.build({"preset": options.preset, "minutes": options.minutes, "checkpoint": checkpoint})
        # The measure before the first step is no part of the time between steps.
        result = train([f"{work}/library:code"], Path(work) / "model", settings)
        steps = sum(row["seconds"] for row in RunFolder(result.run).metrics())
    before = spent["held-out text"].pop(0) if result.before else 0.0
    other = result.seconds - steps
    known = {name: sum(times) for name, times in spent.items()}
    rows = [["steps", f"{result.steps:,}", f"{steps:.1f} s", f"{steps / result.seconds:.2%}"]]
    for name, times in spent.items():
        rows.append([name, str(len(times)), f"{sum(times):.1f} s", f"{sum(times) / result.seconds:.2%}"])
    rest = other - sum(known.values())
    rows.append(["logs, tracking, the rest", "", f"{rest:.1f} s", f"{rest / result.seconds:.2%}"])
    rows.append(["all but steps", "", f"{other:.1f} s", f"{other / result.seconds:.2%}"])
    print_table(
        f"Where {result.seconds / 60:.1f} minutes of a run of {options.preset} went",
        ["", "times", "together", "share"],
        rows,
        [f"beside it, once: {before:.1f} s to measure the held-out text before the first step"],
    )
    each = {name: statistics.median(times) for name, times in spent.items()}
    longer = {minutes: at_defaults(60 * minutes, each, rest / steps) for minutes in options.runs}
    print_table(
        "Shares of longer runs at the default intervals",
        ["a run of", *next(iter(longer.values())), "all but steps"],
        [
            [f"{minutes:g} min", *(f"{share:.2%}" for share in shares.values()), f"{sum(shares.values()):.2%}"]
            for minutes, shares in longer.items()
        ],
        ["each once: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in each.items()), str(machine())],
    )
    write_json(
        options.json,
        {
            "benchmark": "overhead",
            "machine": machine(),
            "preset": options.preset,
            "seconds": result.seconds,
            "steps": steps,
            "spent": spent,
            "overhead": other / result.seconds,
            "each": each,
            "longer": longer,
        },
    )


def at_defaults(seconds: float, each: dict[str, float], rest: float) -> dict[str, float]:
    """Return the shares of a run of ``seconds`` that go to measures, best models, checkpoints and the rest.

    Args:
        seconds: of the run.
        each: what one of them costs, in seconds; what did not occur in the measured run costs nothing.
        rest: of the measured run, over its steps.
    """
    from lifelong.settings.train import CheckpointSettings
    from lifelong.train.planning import measures_in

    measure = each.get("held-out text", 0.0)
    measures = measures_in(seconds, measure) + 1
    checkpoints = int(seconds // (60 * CheckpointSettings().every_minutes))
    return {
        "held-out text": measures * measure / seconds,
        "best model": measures * each.get("best model", 0.0) / seconds,
        "checkpoints": checkpoints * each.get("checkpoints", 0.0) / seconds,
        "logs, tracking, the rest": rest,
    }


if __name__ == "__main__":
    main()
