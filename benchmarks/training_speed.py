"""Training tokens per second: our step, transformers' Llama in a plain fp32 loop, and nanoGPT's CPU recipe.

All models live in one process and take turns; every round times one forward and backward pass and one whole step of
each. The best of all rounds counts (the machine at its least disturbed), the median is printed beside it.

- ours: `lifelong.train.loop.train_steps`, the trainer's own loop: loader, loss, clipping, Muon and AdamW.
- Llama: `transformers.LlamaForCausalLM` of the same shape, fp32, SDPA, clipping, AdamW (fused unless --adamw default).
- nanoGPT: its own model.py and AdamW as its README runs them on a CPU (fp32, no compile), clipping.

The two others get their batches ready-made; ours are loaded within the measured step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from common import (
    RandomRows,
    add_shape,
    count,
    machine,
    nanogpt_model,
    nanogpt_optimizer,
    print_table,
    shape,
    write_json,
)
from torch import Tensor

from lifelong.device import matmul_flops, pick_precision
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.settings.train import OptimizerSettings
from lifelong.tokens.loader import Loader
from lifelong.train.loop import Plan, Step, precision, train_steps
from lifelong.train.optim import build_optimizers
from lifelong.train.planning import compile_blocks

Batches = list[tuple[Tensor, Tensor]]
CPU = torch.device("cpu")


@dataclass
class Contestant:
    """One model with its way to train: a pass forward and backward, and a whole step. Times are in seconds."""

    name: str
    parameters: int
    flops_per_token: float
    passes: Callable[[], None]
    step: Callable[[], None]
    pass_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)


def ours(name: str, config: ModelConfig, batch: int, bf16: bool, compiled: bool) -> Contestant:
    """Return our model under the trainer's own loop."""
    model = Transformer(config)
    if compiled:
        compile_blocks(model, "on", 0.0)
    loader = Loader([(RandomRows(config.vocab_size, config.max_seq_len), 1.0)], batch_size=batch)
    optimizers = build_optimizers(model, OptimizerSettings(), bf16=bf16)
    plan = Plan(total_steps=10**9, optimizers=optimizers, rate=lambda step: 3e-3, bf16=bf16)
    steps: Iterator[Step] = train_steps(model, loader, plan)
    ready = loader.batch(0)
    tokens = ready.labels.numel()

    def passes() -> None:
        with precision(CPU, bf16):
            loss = plan.objective(model, ready) / tokens
        loss.backward()

    flops = config.flops_per_token(config.max_seq_len)
    return Contestant(name, count(model), flops, _then_clear(model, passes), lambda: (next(steps), None)[1])


def plain(
    name: str,
    model: Any,
    optimizer: Any,
    flops: float,
    batches: Batches,
    loss_of: Callable[[Any, Tensor, Tensor], Tensor],
) -> Contestant:
    """Return a model in a plain PyTorch loop: zero, forward, backward, clip to 1, step."""
    at = 0

    def loss() -> Tensor:
        nonlocal at
        at = (at + 1) % len(batches)
        return loss_of(model, *batches[at])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        value.item()  # as a loop that shows its loss does, ours included

    return Contestant(name, count(model), flops, _then_clear(model, lambda: loss().backward()), step)


def _then_clear(model: Any, passes: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        passes()

    return run


def llama(config: ModelConfig, batches: Batches, adamw: str) -> Contestant:
    """Return transformers' Llama of the same shape (it has no QK-norm, so it does a little less)."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_query_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.d_ff,
            max_position_embeddings=config.max_seq_len,
            tie_word_embeddings=config.tie_embeddings,
            use_cache=False,
            attn_implementation="sdpa",
        )
    )
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, weight_decay=0.1, fused=True if adamw == "fused" else None
    )
    flops = config.model_copy(update={"qk_norm": False}).flops_per_token(config.max_seq_len)
    # `shift_labels` are labels that are shifted already, so all positions are trained on, as in the other models.
    return plain(
        f"transformers Llama, {adamw} AdamW",
        model,
        optimizer,
        flops,
        batches,
        lambda net, ids, labels: net(input_ids=ids, labels=labels, shift_labels=labels).loss,
    )


def nanogpt(folder: Any, config: ModelConfig, batches: Batches) -> Contestant:
    """Return nanoGPT's model with its CPU recipe."""
    model = nanogpt_model(folder, config, config.parameters)
    positions = model.transformer.wpe.weight.numel()
    time_, layers = config.max_seq_len, model.config.n_layer
    # The same count as `ModelConfig.flops_per_token`: positions are looked up, not multiplied.
    flops = 6.0 * (count(model) - positions) + 6.0 * layers * config.d_model * time_
    name = f"nanoGPT, {layers} layers, its AdamW"
    return plain(name, model, nanogpt_optimizer(model), flops, batches, lambda net, ids, labels: net(ids, labels)[1])


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
    add_shape(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also our model with compiled blocks")
    parser.add_argument("--adamw", choices=("fused", "default"), default="fused", help="of transformers' Llama")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config, tokens = shape(options), options.batch * options.length
    chosen = pick_precision(CPU)
    loader = Loader([(RandomRows(options.vocab, options.length), 1.0)], batch_size=options.batch)
    batches = [(batch.input_ids, batch.labels) for batch in map(loader.batch, range(8))]
    field_ = [ours(f"lifelong, {chosen}", config, options.batch, chosen == "bf16", compiled=False)]
    if options.compile:
        field_.append(ours(f"lifelong, {chosen}, compiled", config, options.batch, chosen == "bf16", compiled=True))
    field_.append(llama(config, batches, options.adamw))
    if options.nanogpt:
        field_.append(nanogpt(options.nanogpt, config, batches))
    types = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if chosen == "bf16" else {})
    ceilings = dict.fromkeys(types, 0.0)
    for round_ in range(options.rounds + 1):  # the first warms up (and compiles)
        for item in field_:
            for run, seconds in ((item.passes, item.pass_seconds), (item.step, item.step_seconds)):
                start = time.perf_counter()
                run()
                if round_:
                    seconds.append(time.perf_counter() - start)
        for name, dtype in types.items():
            ceilings[name] = max(ceilings[name], ceiling(config, tokens, dtype))
    report(options, config, field_, ceilings, chosen, tokens)


def report(
    options: argparse.Namespace,
    config: ModelConfig,
    contestants: list[Contestant],
    ceilings: dict[str, float],
    chosen: str,
    tokens: int,
) -> None:
    """Print and write what was measured; ratios are ours over theirs."""
    base, best = contestants[0], max(ceilings.values())
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
        rows.append(
            [
                item.name,
                f"{item.parameters / 1e6:.2f}M",
                f"{tokens / step:,.0f}",
                f"{now['tokens_per_second_median']:,.0f}",
            ]
            + [f"{now['ours_over_this']:.2f}x", f"{tokens / passes:,.0f}"]
            + [f"{now['ours_over_this_forward_backward']:.2f}x", f"{now['fraction_of_ceiling']:.0%}"]
        )
    speeds = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in ceilings.items())
    unused = "" if chosen == "bf16" else "; bf16 products are not faster here, so fp32 is the ceiling"
    print_table(
        f"Training speed, {options.batch}x{options.length} tokens, best of {options.rounds} rounds",
        ["", "parameters", "tokens/s", "median", "ours/this", "fwd+bwd tokens/s", "ours/this", "of ceiling"],
        rows,
        [
            f"Ceiling: matrix products at the model's own shapes, {speeds}{unused}.",
            "FLOPs a token: 6 per weight (embedding once, as the output layer) + 6·layers·width·time for causal attention.",
            "tokens/s: whole optimizer steps; fwd+bwd: loss and gradients alone.",
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
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
