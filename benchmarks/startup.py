"""Wall time of `lifelong --help`, and whether it imported torch; with --model, of `generate` to its first character.

Every start is a new process, as a user starts it. The interpreter's own start (`python -c pass`) stands beside it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import print_table, write_json

HEAVY = ("torch", "numpy", "transformers", "datasets", "tokenizers", "matplotlib", "pydantic", "rich")
_MAIN = "import sys; from lifelong.cli.app import main; sys.exit(main(['--help']))"


def seconds(command: list[str]) -> float:
    """Return the wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def first_character(command: list[str]) -> float:
    """Return the seconds from the start of a process until it writes something."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        return time.perf_counter() - start


def imported(names: tuple[str, ...]) -> list[str]:
    """Return which of the top-level modules the help imports, by the interpreter's own trace of imports."""
    command = [sys.executable, "-X", "importtime", "-c", _MAIN]
    trace = subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
    found = {line.rpartition("|")[2].strip().partition(".")[0] for line in trace.splitlines()}
    return [name for name in names if name in found]


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--model", metavar="DIR", help="a model directory, to write with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    beside = Path(sys.executable).with_name("lifelong")
    program = str(beside) if beside.is_file() else shutil.which("lifelong")
    if program is None:
        sys.exit("lifelong is not installed in this environment")
    commands = {"lifelong --help": [program, "--help"], "python -c pass": [sys.executable, "-c", "pass"]}
    for command in commands.values():
        seconds(command)  # bytecode and disk cache
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    if options.model:
        write = [program, "generate", options.model, "--prompt", "The", "--max-tokens", "1"]
        seconds(write)
        times["first character of generate"] = [first_character(write) for _ in range(options.runs)]
    heavy = imported(HEAVY)
    print_table(
        f"Start-up, {options.runs} runs each",
        ["", "best", "median"],
        [[name, f"{min(taken):.3f} s", f"{statistics.median(taken):.3f} s"] for name, taken in times.items()],
        [
            f"torch imported by --help: {'YES' if 'torch' in heavy else 'no'}",
            f"of {', '.join(HEAVY)} it imports: {', '.join(heavy) or 'none'}",
        ],
    )
    write_json(
        options.json,
        {
            "benchmark": "startup",
            "seconds": times,
            "best": {name: min(taken) for name, taken in times.items()},
            "median": {name: statistics.median(taken) for name, taken in times.items()},
            "torch_imported": "torch" in heavy,
            "imported": heavy,
        },
    )


if __name__ == "__main__":
    main()
