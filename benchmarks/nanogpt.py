"""nanoGPT's own model from a checkout, its optimizer, and a face by which our loop and our score take it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lifelong.settings.model import ModelConfig


def nanogpt_model(folder: Path, config: ModelConfig, target: int) -> Any:
    """Return nanoGPT's own GPT (no bias, no dropout, as its recipes for small models have it) from a checkout.

    Same width, heads and vocabulary as ``config``; as many layers as bring it nearest to ``target`` parameters,
    position embeddings included.
    """
    path = folder / "model.py"
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"{folder} holds no model.py: --nanogpt needs a checkout of nanoGPT")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    per_layer = 12 * config.d_model**2 + 2 * config.d_model
    rest = config.d_model * (config.vocab_size + config.max_seq_len + 1)
    layers = max(1, round((target - rest) / per_layer))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its size
        return module.GPT(
            module.GPTConfig(
                block_size=config.max_seq_len,
                vocab_size=config.vocab_size,
                n_layer=layers,
                n_head=config.num_query_heads,
                n_embd=config.d_model,
                dropout=0.0,
                bias=False,
            )
        )


def nanogpt_optimizer(model: Any, rate: float = 1e-3) -> Any:
    """Return the AdamW that nanoGPT builds for a CPU, with the values of its shakespeare-char recipe."""
    with contextlib.redirect_stdout(io.StringIO()):
        return model.configure_optimizers(0.1, rate, (0.9, 0.99), "cpu")


class NanoGPT(nn.Module):
    """nanoGPT's model behind the names that `score` and `train_steps` use of ours."""

    experts = None
    device = torch.device("cpu")

    def __init__(self, gpt: Any, config: Any) -> None:
        super().__init__()
        self.gpt, self.config = gpt, config
        self.model = nn.Module()
        self.model.embed_tokens = gpt.transformer.wte

    def loss_sum(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return its own loss (a mean; it ignores -1) times the labels, as the loop divides by their number."""
        assert segment_ids is None and weights is None
        targets = labels.masked_fill(labels == -100, -1)
        mean: Tensor = self.gpt(input_ids, targets)[1]
        return mean * (targets != -1).sum()

    @torch.no_grad()
    def token_losses(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return each token's cross-entropy in nats (0 where the label is -100), and whether it was the likeliest."""
        assert segment_ids is None
        logits = self.gpt(input_ids, labels.clamp(min=0))[0]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.view_as(labels), (logits.argmax(-1) == labels) & (labels != -100)
