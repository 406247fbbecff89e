"""Peak resident memory of pretraining a preset, beside what cannot be saved.

Each measure is a new process that reports its own peak (`getrusage`). This parent imports no torch: on Linux a child
starts its count at its parent's size.

- imports: what training imports, and nothing done.
- floor: fp32 weights + gradients + optimizer state, computed from the shapes (`lifelong.settings.presets.state_bytes`).
- training: the trainer's loop for some steps, with the loader, the loss and the default optimizers.
- whole verb (--verb): `lifelong train` on Python's own documentation: reading, a tokenizer, evaluation, saving too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RandomRows, print_table, write_json

from lifelong.settings.presets import load_preset, state_bytes, train_memory_bytes

MB = 1e6


def child(options: argparse.Namespace) -> None:
    """Do one thing in this process, and print its peak."""
    from lifelong.device import peak_memory_bytes

    facts = {"imports": _imports, "training": _training, "verb": _verb}[options.child](options)
    print(json.dumps({"peak_bytes": peak_memory_bytes(), **facts}))


def _imports(options: argparse.Namespace) -> dict[str, Any]:
    import lifelong.model.transformer
    import lifelong.train.run  # noqa: F401

    return {}


def _training(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lifelong.device import pick_precision
    from lifelong.model.transformer import Transformer
    from lifelong.settings.train import OptimizerSettings
    from lifelong.tokens.loader import Loader
    from lifelong.train.loop import Plan, train_steps
    from lifelong.train.optim import build_optimizers

    torch.set_num_threads(options.threads)
    config = load_preset(options.preset).config()
    model = Transformer(config)
    bf16 = pick_precision(torch.device("cpu")) == "bf16"
    loader = Loader([(RandomRows(config.vocab_size, options.length), 1.0)], batch_size=options.batch)
    plan = Plan(
        total_steps=options.steps,
        optimizers=build_optimizers(model, OptimizerSettings(), bf16=bf16),
        rate=lambda step: 3e-3,
        bf16=bf16,
    )
    for _ in train_steps(model, loader, plan):
        pass
    # Counted, not computed: the floor in the table must agree with it.
    state = [item for optimizer in plan.optimizers for facts in optimizer.state.values() for item in facts.values()]
    tensors = sum(item.numel() * item.element_size() for item in state if torch.is_tensor(item))
    return {"precision": "bf16" if bf16 else "fp32", "optimizer_state_bytes": tensors}


def _verb(options: argparse.Namespace) -> dict[str, Any]:
    from lifelong.settings.train import TrainSettings
    from lifelong.text import write_python_corpora
    from lifelong.train.run import train

    with tempfile.TemporaryDirectory() as folder:
        prose = write_python_corpora(Path(folder) / "python")["prose"]
        settings = TrainSettings(
            preset=options.preset,
            steps=options.steps,
            batch_size=options.batch,
            sequence_length=options.length,
            threads=options.threads,
        )
        train([str(prose)], Path(folder) / "model", settings)
    return {}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a child of that kind reports."""
    flags = [f"--{key}={getattr(options, key)}" for key in ("preset", "batch", "length", "steps", "threads")]
    run = subprocess.run(
        [sys.executable, __file__, "--child", name, *flags], check=True, stdout=subprocess.PIPE, text=True
    )
    facts: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return facts


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verb", action="store_true", help="also the whole of `lifelong train` (some minutes)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--child", choices=("imports", "training", "verb"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    imports, training = measure("imports", options), measure("training", options)
    config = load_preset(options.preset).config()
    base, peak, floor = imports["peak_bytes"], training["peak_bytes"], state_bytes(config)
    counted = 8 * config.parameters + training["optimizer_state_bytes"]
    estimate = train_memory_bytes(config, options.batch, options.length, precision=training["precision"])
    lines = {
        "imports alone": base,
        "floor: weights + gradients + optimizer state": floor,
        "the same, counted in the process": counted,
        "`lifelong presets`' estimate of training, without imports": estimate,
        "imports + floor": base + floor,
        "peak of training": peak,
        "of which neither imports nor floor": peak - base - floor,
    }
    if options.verb:
        lines["peak of the whole verb"] = measure("verb", options)["peak_bytes"]
    print_table(
        f"Memory of pretraining '{options.preset}' ({config.parameters / 1e6:.1f}M parameters), "
        f"{options.batch}x{options.length} tokens, {training['precision']}",
        ["", "MB", "of floor"],
        [[name, f"{size / MB:,.0f}", f"{size / floor:.2f}x"] for name, size in lines.items()],
    )
    write_json(options.json, {"benchmark": "memory", "preset": options.preset, "parameters": config.parameters} | lines)


if __name__ == "__main__":
    main()
