"""At which share of its peak rate a model trained from nothing should be trained further.

    python benchmarks/further_rate.py [--steps 600] [--further 200] [--shares 0.1 0.2 0.3]

A small model learns Python's reference topics; then, from the same weights, source code of the standard library at
several shares of the peak rate. Printed for each: bits per byte of held-out code (what it learned) and of held-out
topics (what it forgot). No replay, and nothing else against forgetting: the rate alone.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics as topics
import shutil
import sysconfig
import tempfile
from pathlib import Path

from lifelong.evaluate.bits import score
from lifelong.learn.held import read_slices
from lifelong.model.directory import load_model
from lifelong.model.store import ModelStore
from lifelong.settings.train import TrainSettings
from lifelong.train.run import train

SHARES = (0.003, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)  # 0.003 of 3e-3: about guide B's 1e-5
PRESET = """\
name: further
description: for this benchmark
reference_vocab_size: 2048
model: {d_model: 128, num_layers: 4, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 128}
"""


def measure(model: Path) -> dict[str, float]:
    """Return bits per byte of each domain's test slice."""
    network, tokenizer = load_model(model)
    slices = read_slices(model, ModelStore.open(model).state()["domains"], "test")
    return {name: score(network, tokenizer, texts, max_bytes=20_000).bits_per_byte for name, texts in slices.items()}


def show(name: str, found: dict[str, float]) -> None:
    """Print one line of the table."""
    print(f"{name:>7} {found['topics']:8.3f} {found.get('code', float('nan')):8.3f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--further", type=int, default=200)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "preset.yaml").write_text(PRESET)
        (place / "topics.txt").write_text("\n\n\n".join(text for _, text in sorted(topics.topics.items())))
        library = Path(sysconfig.get_paths()["stdlib"])
        (place / "code").mkdir()
        for path in sorted(library.glob("*.py"))[:80]:
            shutil.copy(path, place / "code")
        quick = {"preset": str(place / "preset.yaml"), "batch_size": 8, "evaluation": {"max_bytes": 10_000}}
        settings = TrainSettings.build({**quick, "steps": options.steps, "domain": "topics"})
        train([str(place / "topics.txt")], place / "start", settings)
        print(f"{'share':>7} {'topics':>8} {'code':>8}")
        show("start", measure(place / "start"))
        for share in options.shares:
            out = place / f"at-{share}"
            shutil.copytree(place / "start", out)
            rate = {"optimizer": {"learning_rate": 3e-3 * share}}
            further = TrainSettings.build({**quick, **rate, "steps": options.further, "domain": "code"})
            train([str(place / "code")], out, further)
            show(f"{share:g}", measure(out))


if __name__ == "__main__":
    main()
