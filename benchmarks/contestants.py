"""The models that `training_speed.py` compares, each with one pass and one whole step to time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import RandomRows, count
from nanogpt import nanogpt_model, nanogpt_optimizer
from torch import Tensor

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
    return Contestant(name, count(model), flops, cleared(model, passes), lambda: (next(steps), None)[1])


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

    return Contestant(name, count(model), flops, cleared(model, lambda: loss().backward()), step)


def cleared(model: Any, passes: Callable[[], None]) -> Callable[[], None]:
    """Return ``passes`` leaving no gradients behind, which the step after would add to."""

    def run() -> None:
        passes()
        for parameter in model.parameters():
            parameter.grad = None

    return run


def llama_model(config: ModelConfig) -> Any:
    """Return transformers' Llama of the same shape (attention is its default, SDPA; it has no QK-norm, so it does a
    little less).
    """
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
        )
    )
    model.train()
    return model


def llama(config: ModelConfig, batches: Batches, adamw: str) -> Contestant:
    """Return transformers' Llama in a plain loop."""
    model = llama_model(config)
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


def nanogpt(folder: Path, config: ModelConfig, batches: Batches) -> Contestant:
    """Return nanoGPT's model with its CPU recipe."""
    model = nanogpt_model(folder, config, config.parameters)
    positions = model.transformer.wpe.weight.numel()
    time_, layers = config.max_seq_len, model.config.n_layer
    # The same count as `ModelConfig.flops_per_token`: positions are looked up, not multiplied.
    flops = 6.0 * (count(model) - positions) + 6.0 * layers * config.d_model * time_
    name = f"nanoGPT, {layers} layers, its AdamW"
    return plain(name, model, nanogpt_optimizer(model), flops, batches, lambda net, ids, labels: net(ids, labels)[1])
