"""Batches a second: the loader with a mixture and packing, against reading the same rows from plain memory.

    python benchmarks/loader.py [--length 512] [--batch 16] [--step-seconds 0.9]

Targets: 2M tokens/s per process, and at most 2% of a training step of the preset `tiny` on this CPU
(`--step-seconds` measured elsewhere; by default a step is timed here).
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, print_table

from lifelong.text import Document
from lifelong.tokens import BPETokenizer, ChatSource, Loader, WindowSource, build_cache

_ROUNDS, _BATCHES = 5, 200


def main() -> None:
    """Time all loaders in turns, and print the median of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--step-seconds", type=float, help="a step of `tiny` with this batch (default: measure it)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loaders = _loaders(Path(folder), options.length, options.batch)
        seconds: dict[str, list[float]] = {name: [] for name in loaders}
        for turn in range(_ROUNDS):
            for name, batch in loaders.items():
                began = time.perf_counter()
                for step in range(turn * _BATCHES, (turn + 1) * _BATCHES):
                    batch(step)
                seconds[name].append((time.perf_counter() - began) / _BATCHES)
    step = options.step_seconds or _step(options.length, options.batch)
    tokens = options.length * options.batch
    plain = statistics.median(seconds["plain memory"])
    results = {
        name: {
            "batches_per_second": 1 / median,
            "tokens_per_second": tokens / median,
            "share_of_tiny_step": median / step,
            "times_plain_memory": median / plain,
        }
        for name, median in ((name, statistics.median(times)) for name, times in seconds.items())
    }
    facts = {"length": options.length, "batch": options.batch, "tiny_step_seconds": step, **machine()}
    print_table(
        f"{options.batch} rows of {options.length} tokens; a step of `tiny` takes {step:.2f} s",
        ["loader", "batches/s", "M tokens/s", "% of a step", "x plain memory"],
        [
            [
                name,
                f"{row['batches_per_second']:,.0f}",
                f"{row['tokens_per_second'] / 1e6:.1f}",
                f"{100 * row['share_of_tiny_step']:.3f}",
                f"{row['times_plain_memory']:.1f}",
            ]
            for name, row in results.items()
        ],
        [f"median of {_ROUNDS} turns of {_BATCHES} batches; load {facts['load']}"],
    )
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "results": results}, indent=2) + "\n", encoding="utf-8")


def _loaders(folder: Path, length: int, batch: int) -> dict[str, Callable[[int], Any]]:
    from pydoc_data import topics

    texts = [*topics.topics.values(), inspect.getsource(argparse), inspect.getsource(inspect)]
    tokenizer = BPETokenizer(8000, min_frequency=1).train(texts)
    caches = []
    for number, (size, copies) in enumerate([(600, 12), (3000, 8), (20_000, 4)]):
        pieces = [text[at : at + size] for text in texts for at in range(0, len(text), size)]
        documents = (Document(piece, "", "") for piece in pieces * copies)
        caches.append(build_cache(documents, tokenizer, folder / str(number), shard_bytes=2**20))
    turns = [
        ({"role": "user", "content": text[at : at + 80]}, {"role": "assistant", "content": text[at + 80 : at + 500]})
        for text in texts
        for at in range(0, len(text), 500)
    ]
    chats = build_cache((Document("", "", "", "chat", messages=item) for item in turns * 6), tokenizer, folder / "sft")
    windows = [WindowSource(cache, length) for cache in caches]
    memory = caches[1].read(0, caches[1].tokens)
    rows = batch * length

    def plain(step: int) -> Any:
        at = step * rows % (len(memory) - rows - 1)
        parts = memory[at : at + rows], memory[at + 1 : at + rows + 1]
        return [torch.from_numpy(part.reshape(batch, length).copy()) for part in parts]

    return {
        "plain memory": plain,
        "documents of 600 bytes": Loader([(windows[0], 1.0)], batch_size=batch).batch,
        "documents of 3 kB": Loader([(windows[1], 1.0)], batch_size=batch).batch,
        "mixture of three": Loader(list(zip(windows, (0.6, 0.3, 0.1), strict=True)), batch_size=batch).batch,
        "packed chats": Loader([(ChatSource(chats, length), 1.0)], batch_size=batch).batch,
    }


def _step(length: int, batch: int) -> float:
    """Return the seconds of a training step of `tiny` on random tokens; the best of five."""
    from common import RandomRows

    from lifelong.model.transformer import Transformer
    from lifelong.settings.presets import load_preset
    from lifelong.settings.train import OptimizerSettings
    from lifelong.train.loop import Plan, train_steps
    from lifelong.train.optim import build_optimizers

    model = Transformer(load_preset("tiny").config(vocab_size=8000))
    loader = Loader([(RandomRows(8000, length), 1.0)], batch_size=batch)
    plan = Plan(5, build_optimizers(model, OptimizerSettings(), bf16=False), lambda step: 1e-4)
    return min(step.seconds for step in train_steps(model, loader, plan))


if __name__ == "__main__":
    main()
