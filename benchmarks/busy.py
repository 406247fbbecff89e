"""How much slower a training gets when another process keeps a core busy, by how waiting threads wait.

    python benchmarks/busy.py [--preset nano] [--seconds 10] [--rounds 3] [--json busy.json]

All cores compute forward and backward passes of one model in a process of its own, for each way of waiting (libgomp's
own, sleeping at once, and what `import lifelong` sets), without and with one process beside it that never rests, of
another session, as a user's other programs are. The ways are taken in turn; printed is the median over the rounds of
each round's median.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import machine, print_table, write_json

_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_WAYS: dict[str, dict[str, str]] = {
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "sleep at once": {"OMP_WAIT_POLICY": "passive"},
    "lifelong's": {},
}


def steps(options: argparse.Namespace) -> None:
    """Compute passes for some seconds, and print the median of their tokens per second."""
    import torch  # after `common`, which imports lifelong: that sets how threads wait

    from lifelong.model.transformer import Transformer
    from lifelong.settings.presets import load_preset

    torch.set_num_threads(options.threads)
    model = Transformer(load_preset(options.preset).config())
    ids = torch.randint(model.config.vocab_size, (options.batch, options.length))
    took: list[float] = []
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end or len(took) < 3:
        start = time.perf_counter()
        model.loss_sum(ids, ids).backward()
        took.append(time.perf_counter() - start)
    print(ids.numel() / statistics.median(took))


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep this many cores busy meanwhile."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0, help="of every measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps:
        return steps(options)
    bare = {key: value for key, value in os.environ.items() if key not in _VARIABLES}
    found: dict[str, dict[int, list[float]]] = {way: {0: [], 1: []} for way in _WAYS}
    for _ in range(options.rounds):
        for busy in (0, 1):
            for way, variables in _WAYS.items():
                with neighbours(busy):
                    command = [sys.executable, __file__, *sys.argv[1:], "--steps"]
                    done = subprocess.run(
                        command, check=True, stdout=subprocess.PIPE, text=True, env={**bare, **variables}
                    )
                found[way][busy].append(float(done.stdout))
    speeds = {way: {busy: statistics.median(each) for busy, each in taken.items()} for way, taken in found.items()}
    rows = [
        [way, f"{taken[0]:,.0f}", f"{taken[1]:,.0f}", f"{taken[1] / taken[0]:.2f}"] for way, taken in speeds.items()
    ]
    title = f"{options.preset}, {options.threads} threads: tokens/s, forward and backward"
    print_table(title, ["threads wait", "alone", "beside a busy process", "of alone"], rows, [str(machine())])
    write_json(options.json, {"tokens_per_second": speeds, "rounds": found, "machine": machine()})


if __name__ == "__main__":
    main()
