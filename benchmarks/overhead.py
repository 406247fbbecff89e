"""What evaluating and saving cost a run: the share of its time that is not spent in steps.

A whole run of `lifelong train` on the sources of Python's standard library, at the default intervals: ten measures of
held-out text at most, a checkpoint every ten minutes, the best model kept. The run must be longer than the ten minutes
between two checkpoints to be fair: by default 25 minutes. Target: under 3%.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--corpus-bytes", type=int, default=20_000_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()

    from lifelong.settings.train import TrainSettings
    from lifelong.train import drive
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

    drive.save_checkpoint = timed("checkpoints", drive.save_checkpoint)
    Job.measure = timed("held-out text", Job.measure)  # type: ignore[method-assign]
    Keeper.best = timed("best model", Keeper.best)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as work:
        library_corpus(Path(work), options.corpus_bytes)
        settings = TrainSettings.build({"preset": options.preset, "minutes": options.minutes})
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
        },
    )


if __name__ == "__main__":
    main()
