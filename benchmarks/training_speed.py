"""Training tokens per second: our step, transformers' Llama in a plain loop and in its Trainer, litgpt, and nanoGPT.

All models live in one process and take turns; every round times one forward and backward pass and one whole step of
each. The best of all rounds counts (the machine at its least disturbed), the median is printed beside it.

- ours: `lifelong.train.loop.train_steps`, the trainer's own loop: loader, loss, clipping, Muon and AdamW.
- Llama: `transformers.LlamaForCausalLM` of the same shape, fp32, SDPA, clipping, AdamW (fused unless --adamw default).
- Trainer: `transformers.Trainer` on the same Llama, with everything off that is not a step (see `trainers.py`).
- litgpt: its own model, compiled, in `fit`, the loop of `litgpt pretrain`, with everything off that is not a step.
- nanoGPT: its own model.py and AdamW as its README runs them on a CPU (fp32, no compile), clipping.

The plain loops and litgpt get their batches ready-made; Trainer stacks rows, and ours are loaded, within the measured
step. The Trainer and litgpt compute in bf16 where we do. What is not installed is left out and named. litgpt asks for
a huggingface_hub older than transformers does; it trains without, from a folder of its own on PYTHONPATH:
`pip install --no-deps --target FOLDER litgpt lightning lightning-utilities torchmetrics jsonargparse`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from common import RandomRows, machine, parse_with_shape, print_table, shape, write_json
from contestants import CPU, Batches, Contestant, llama, nanogpt, ours
from trainers import hf_trainer, litgpt, missing

from lifelong.device import matmul_flops, pick_precision
from lifelong.settings.model import ModelConfig
from lifelong.tokens.loader import Loader


def ceiling(config: ModelConfig, rows: int, dtype: torch.dtype) -> float:
    """Return the matrix products' FLOP/s at the model's own forward shapes, as one pass over all of them has it."""
    queries, keys = config.num_query_heads * config.head_dim, config.num_kv_heads * config.head_dim
    head_rows = min(rows, max(1, (1 << 21) // config.vocab_size))  # our output layer works in slices
    sizes = [(rows, config.d_model, queries), (rows, queries, config.d_model)] + 2 * [(rows, config.d_model, keys)]
    sizes += 2 * [(rows, config.d_model, config.d_ff)] + [(rows, config.d_ff, config.d_model)]
    products = [(size, config.num_layers) for size in sizes]
    products.append(((head_rows, config.d_model, config.vocab_size), rows // head_rows))
    work = [(2.0 * a * b * c * times, matmul_flops(CPU, dtype, (a, b, c))) for (a, b, c), times in products]
    return sum(flops for flops, _ in work) / sum(flops / speed for flops, speed in work)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also our model with compiled blocks")
    parser.add_argument("--adamw", choices=("fused", "default"), default="fused", help="of transformers' Llama")
    options = parse_with_shape(parser)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config, tokens = shape(options), options.batch * options.length
    chosen = pick_precision(CPU)
    loader = Loader([(RandomRows(options.vocab, options.length), 1.0)], batch_size=options.batch)
    batches = [(batch.input_ids, batch.labels) for batch in map(loader.batch, range(8))]
    contestants, left_out = field(options, config, batches, chosen)
    types = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if chosen == "bf16" else {})
    ceilings = dict.fromkeys(types, 0.0)
    for round_ in range(options.rounds + 1):  # the first warms up (and compiles)
        for item in contestants:
            for run, seconds in ((item.passes, item.pass_seconds), (item.step, item.step_seconds)):
                start = time.perf_counter()
                run()
                if round_:
                    seconds.append(time.perf_counter() - start)
        for name, dtype in types.items():
            ceilings[name] = max(ceilings[name], ceiling(config, tokens, dtype))
    report(options, config, contestants, ceilings, chosen, left_out)


def field(
    options: argparse.Namespace, config: ModelConfig, batches: Batches, chosen: str
) -> tuple[list[Contestant], list[str]]:
    """Return the contestants, ours first, and a line for each that is left out."""
    bf16 = chosen == "bf16"
    others: dict[str, tuple[str, Callable[[], Contestant]]] = {
        "transformers Llama": ("", lambda: llama(config, batches, options.adamw)),
        "transformers Trainer": (missing("accelerate"), lambda: hf_trainer(config, batches, bf16, options.adamw)),
        "litgpt": (missing("litgpt", "lightning"), lambda: litgpt(config, batches, bf16)),
        "nanoGPT": (
            "" if options.nanogpt else "no --nanogpt DIR",
            lambda: nanogpt(options.nanogpt, config, batches),
        ),
    }
    contestants = [ours(f"lifelong, {chosen}", config, options.batch, bf16, compiled=False)]
    if options.compile:
        contestants.append(ours(f"lifelong, {chosen}, compiled", config, options.batch, bf16, compiled=True))
    contestants += [build() for reason, build in others.values() if not reason]
    return contestants, [f"left out: {name} ({reason})" for name, (reason, _) in others.items() if reason]


def report(
    options: argparse.Namespace,
    config: ModelConfig,
    contestants: list[Contestant],
    ceilings: dict[str, float],
    chosen: str,
    left_out: list[str],
) -> None:
    """Print and write what was measured; ratios are ours over theirs."""
    base, best, tokens = contestants[0], max(ceilings.values()), options.batch * options.length
    results: dict[str, Any] = {}
    rows = []
    for item in contestants:
        step, passes = min(item.step_seconds), min(item.pass_seconds)
        results[item.name] = {
            "parameters": item.parameters,
            "flops_per_token": item.flops_per_token,
            "tokens_per_second": tokens / step,
            "tokens_per_second_median": tokens / statistics.median(item.step_seconds),
            "tokens_per_second_forward_backward": tokens / passes,
            "ours_over_this": step / min(base.step_seconds),
            "ours_over_this_forward_backward": passes / min(base.pass_seconds),
            "fraction_of_ceiling": item.flops_per_token * tokens / step / best,
            "step_seconds": item.step_seconds,
            "forward_backward_seconds": item.pass_seconds,
        }
        now = results[item.name]
        cells = [f"{item.parameters / 1e6:.2f}M", f"{tokens / step:,.0f}", f"{now['tokens_per_second_median']:,.0f}"]
        cells += [f"{now['ours_over_this']:.2f}x", f"{tokens / passes:,.0f}"]
        cells += [f"{now['ours_over_this_forward_backward']:.2f}x", f"{now['fraction_of_ceiling']:.0%}"]
        rows.append([item.name, *cells])
    speeds = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in ceilings.items())
    unused = "" if chosen == "bf16" else "; bf16 products are not faster here, so fp32 is the ceiling"
    print_table(
        f"Training speed{f' of {options.preset}' if options.preset else ''}, {options.batch}x{options.length} tokens, "
        f"best of {options.rounds} rounds",
        ["", "parameters", "tokens/s", "median", "ours/this", "fwd+bwd tokens/s", "ours/this", "of ceiling"],
        rows,
        [
            f"Ceiling: matrix products at the model's own shapes, {speeds}{unused}.",
            "FLOPs a token: 6 per weight (embedding once, as output layer) + 6·layers·width·time (causal attention).",
            "tokens/s: whole optimizer steps; fwd+bwd: loss and gradients alone.",
            *left_out,
            str(machine()),
        ],
    )
    write_json(
        options.json,
        {
            "benchmark": "training_speed",
            "machine": machine(),
            "model": config.model_dump(),
            "batch": options.batch,
            "length": options.length,
            "ceiling_flops": ceilings,
            "left_out": left_out,
            "preset": options.preset,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
