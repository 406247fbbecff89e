"""What the benchmarks share: the flags of a shape, random rows, a corpus, the machine's facts, tables, JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lifelong.settings.model import ModelConfig
from lifelong.settings.presets import load_preset

if TYPE_CHECKING:
    from lifelong.text import Corpus

_LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "encodings"}


def parse_with_shape(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the flags of a shape, and parse: by default 8 x 320 with full attention, 11.2M parameters.

    nanoGPT's model knows no grouped queries, and at this width SwiGLU's 8/3 rounds to 864: all models have the same
    depth, width and heads, and parameter counts within 0.1%.
    """
    parser.add_argument(
        "--preset", choices=("nano", "tiny", "gpt-small"), help="shape and vocabulary of this preset instead"
    )
    parser.add_argument("--d-model", type=int, default=320)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--kv-heads", type=int, default=0, help="default: as many as --heads")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nanogpt", type=Path, metavar="DIR", help="a checkout of nanoGPT (default: leave it out)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    if options.preset:
        preset = load_preset(options.preset).config()
        parser.set_defaults(
            d_model=preset.d_model,
            layers=preset.num_layers,
            heads=preset.num_query_heads,
            kv_heads=preset.num_kv_heads,
            vocab=preset.vocab_size,
        )
        options = parser.parse_args()
    return options


def shape(options: argparse.Namespace, vocab: int | None = None, **overrides: Any) -> ModelConfig:
    """Return our model's configuration of the shape flags; what they do not name stays at its default (QK-norm on)."""
    return ModelConfig(
        vocab_size=vocab or options.vocab,
        d_model=options.d_model,
        num_layers=options.layers,
        num_query_heads=options.heads,
        num_kv_heads=options.kv_heads,
        max_seq_len=options.length,
        **overrides,
    )


class RandomRows:
    """A source of random tokens for the loader: only speed and memory are measured with it."""

    importance = 1.0

    def __init__(self, vocab: int, length: int, rows: int = 4096) -> None:
        self.vocab, self.sequence_length, self.count = vocab, length, rows

    def __len__(self) -> int:
        return self.count

    @property
    def tokens_per_row(self) -> float:
        """Tokens in a row."""
        return float(self.sequence_length)

    def rows(self, indices: Any) -> tuple[Any, Any, None]:
        """Return ids and labels, each (rows, time) int64."""
        import numpy as np

        shape = len(indices), self.sequence_length + 1
        tokens = np.random.default_rng(indices).integers(0, self.vocab, shape, dtype=np.int64)
        return tokens[:, :-1].copy(), tokens[:, 1:].copy(), None


def library_corpus(work: Path, limit: int) -> Corpus:
    """Return the sources of Python's standard library, at most ``limit`` bytes, cleaned and split by file.

    The files are copied below ``work`` first: beside the library lie its tests and installed packages. The test split
    comes in the order of a hash, so that a part of it is a fair sample.
    """
    from lifelong.text import DataSource, build_corpus
    from lifelong.text.splitting import position

    library, copy, size = Path(sysconfig.get_path("stdlib")), work / "library", 0
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if _LEFT_OUT & set(name.parts) or size + path.stat().st_size > limit:
            continue
        size += path.stat().st_size
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / name)
    corpus = build_corpus([DataSource(copy, kind="code")])
    corpus.test.sort(key=lambda document: position(document.name, 1))
    return corpus


def count(model: Any) -> int:
    """Return a model's parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, versions, load."""
    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
    return {
        "cpu": name,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Print a table, the first column to the left and the others to the right, with notes below."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for note in notes:
        console.print(f"[dim]{note}[/dim]", highlight=False)


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write the result, if a file was named."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
