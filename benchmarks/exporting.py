"""What exports cost: seconds to write and verify, size, and bits per byte lost, for every target and precision.

    python benchmarks/exporting.py MODEL [MODEL ...] [--only gguf onnx] [--tokens 500] [--json FILE]

Nothing may run beside it. Seconds are of the whole command in this process, imports of the first call included; each
model is exported once for each precision, which is as often as a user does it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from lifelong.cli.common import print_table
from lifelong.errors import LifelongError
from lifelong.export.writing import export
from lifelong.settings.export import PRECISIONS, ExportSettings


def measure(model: Path, target: str, precision: str, *, strings: int, tokens: int) -> dict[str, Any]:
    """Export once; returns what it cost, or why it cannot be."""
    settings = ExportSettings(to=target, precision=precision, adapter="base", strings=strings, tokens=tokens)
    row: dict[str, Any] = {"model": model.name, "to": target, "precision": precision}
    with tempfile.TemporaryDirectory(prefix="lifelong-bench-") as folder:
        started = time.perf_counter()
        try:
            found = export(model, Path(folder) / "out", settings).verification
        except LifelongError as error:
            return {**row, "refused": error.what}
        return {**row, "seconds": time.perf_counter() - started, "runtime": found.runtime, **found.facts}


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--strings", type=int, default=1500)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [
        measure(model, target, precision, strings=given.strings, tokens=given.tokens)
        for model in given.models
        for target in given.only
        for precision in PRECISIONS[target]
    ]
    table = [
        [
            row["model"],
            row["to"],
            row["precision"],
            f"{row['seconds']:.1f}" if "seconds" in row else "",
            f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else "",
            f"{row['bits_per_byte_lost']:+.4f}" if "bits_per_byte_lost" in row else "",
            f"{row['tokens_per_second']:.0f}" if "tokens_per_second" in row else "",
            row.get("refused", "")[:60],
        ]
        for row in rows
    ]
    print_table(["model", "to", "precision", "seconds", "MB", "bpb lost", "tokens/s", "refused"], table)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
