"""Two processes against one, at equal global batch, each way as a user starts it: `lifelong train --nproc`.

    python benchmarks/several.py [--steps 16] [--json several.json]

Two processes of one thread each share the rows of every step (DDP, and FSDP2), against one process with one thread and
with two. Printed: tokens per second (median of the steps after the first five), what that is over one process with
all threads, and by how much the loss after the last step differs from it. On two cores one process with two threads
has all there is: what two processes can gain is the time in which its threads wait for each other, and they pay for
exchanging gradients. That they are slower is a result, too.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics as topics
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import machine, print_table, write_json

PRESET = """\
name: several
description: for this benchmark
reference_vocab_size: 4096
model: {{d_model: {width}, num_layers: {layers}, num_query_heads: {heads}, max_seq_len: {length}}}
"""
_LEFT_OUT = 5  # steps that allocate and warm up


def run(place: Path, name: str, flags: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train as a process of its own, and return tokens per second, the last loss and the peak memory of the first."""
    shape = ["--preset", str(place / "preset.yaml"), "--sequence-length", str(options.length)]
    size = ["--batch-size", str(options.batch), "--steps", str(options.steps), "--evaluation.max-bytes", "20000"]
    own = ["--data", str(place / "topics.txt"), "--tokenizer", str(place / "tokenizer"), "--out", str(place / name)]
    command = [sys.executable, "-m", "lifelong.cli.app", "train", *own, *shape, *size, "--device", "cpu"]
    command += ["--compile", "off", "--evaluation.every-steps", str(options.steps), "--json", *flags]
    # The threads of a process are what torch would take on a machine of as many cores.
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result = json.loads(done.stdout)
    rows = [json.loads(line) for line in (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["tokens_per_second"] for row in rows[_LEFT_OUT:]]
    return {
        "name": name,
        "tokens_per_second": statistics.median(speeds),
        "loss": rows[-1]["loss"],
        "parameters": result["parameters"],
        "peak_memory_bytes": result["peak_memory_bytes"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8, help="rows of a step, of all processes together")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2, help="of all processes together")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    if options.steps <= _LEFT_OUT:
        parser.error(f"--steps: more than {_LEFT_OUT}")
    two = ["--nproc", "2", "--threads", str(max(1, options.threads // 2))]
    ways = {
        "1 process, all threads": ["--threads", str(options.threads)],
        "1 process, half of them": ["--threads", str(max(1, options.threads // 2))],
        "2 processes, ddp": two,
        "2 processes, fsdp": [*two, "--distributed.strategy", "fsdp"],
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shape = {key: getattr(options, key) for key in ("width", "layers", "heads", "length")}
        (place / "preset.yaml").write_text(PRESET.format(**shape))
        (place / "topics.txt").write_text("\n\n\n".join(text for _, text in sorted(topics.topics.items())))
        command = [sys.executable, "-m", "lifelong.cli.app", "tokenizer", "train", str(place / "topics.txt")]
        command += ["--vocab-size", "4096", "--out", str(place / "tokenizer")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = [run(place, name, flags, options) for name, flags in ways.items()]
    first = found[0]
    rows = [
        [
            item["name"],
            f"{item['tokens_per_second']:,.0f}",
            f"{item['tokens_per_second'] / first['tokens_per_second']:.2f}x",
            f"{abs(item['loss'] - first['loss']) / first['loss']:.1e}",
            f"{item['peak_memory_bytes'] / 1e6:,.0f} MB",
        ]
        for item in found
    ]
    columns = ["", "tokens/s", "of the first", "loss differs by", "memory of the first process"]
    title = f"{first['parameters'] / 1e6:.1f}M parameters, steps of {options.batch}x{options.length} tokens"
    print_table(title, columns, rows, [str(machine())])
    write_json(options.json, {"options": {**vars(options), "json": None}, "runs": found, "machine": machine()})


if __name__ == "__main__":
    main()
