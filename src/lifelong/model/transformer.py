"""One transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU; causal or bidirectional.

Module names are Hugging Face's, so the state dict is a stock checkpoint: causal with QK-norm is `Qwen3ForCausalLM`,
causal without is `LlamaForCausalLM`, bidirectional is `EuroBertForMaskedLM`.

Shape letters: B batch, T time, C d_model, Q query heads, K key-value heads, D head_dim, F d_ff, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifelong.model.base import LanguageModel
from lifelong.model.decoding import StaticDecoder
from lifelong.settings.load import validate
from lifelong.settings.model import ModelConfig


class Linear(nn.Linear):
    """A bias-free linear layer that can carry a low-rank adapter without changing its own parameter's name."""

    adapter: nn.Module | None

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.adapter = None

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.weight)
        return out if self.adapter is None else out + self.adapter(x)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019), computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight).to(x.dtype)


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosine and sine tables (..., T, D) for positions (..., T) (Su et al. 2021; Hugging Face's layout)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    angles = positions.unsqueeze(-1).float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x (B, heads, T, D) with tables that broadcast against it."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        queries, keys = config.num_query_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = Linear(config.d_model, queries)
        self.k_proj = Linear(config.d_model, keys)
        self.v_proj = Linear(config.d_model, keys)
        self.o_proj = Linear(queries, config.d_model)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        batch, time, _ = x_BTC.shape
        heads = (batch, time, -1, self.config.head_dim)
        q_BTQD, k_BTKD, v_BTKD = (
            self.q_proj(x_BTC).view(heads),
            self.k_proj(x_BTC).view(heads),
            self.v_proj(x_BTC).view(heads),
        )
        if self.config.qk_norm:
            q_BTQD, k_BTKD = self.q_norm(q_BTQD), self.k_norm(k_BTKD)
        q_BQTD = rotate(q_BTQD.transpose(1, 2), *rotary)
        k_BKTD = rotate(k_BTKD.transpose(1, 2), *rotary)
        v_BKTD = v_BTKD.transpose(1, 2)
        y_BQTD = F.scaled_dot_product_attention(
            q_BQTD,
            k_BKTD,
            v_BKTD,
            attn_mask=mask,
            # Without a mask, plain causal attention takes the fused kernel.
            is_causal=self.config.causal and mask is None and time > 1,
            enable_gqa=self.config.num_kv_heads != self.config.num_query_heads,
        )
        out: Tensor = self.o_proj(y_BQTD.transpose(1, 2).reshape(batch, time, -1))
        return out


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.d_model, config.d_ff)
        self.up_proj = Linear(config.d_model, config.d_ff)
        self.down_proj = Linear(config.d_ff, config.d_model)

    def forward(self, x_BTC: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTC)) * self.up_proj(x_BTC))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each behind its norm and added to the stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = config.dropout

    def forward(self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        attended = self.self_attn(self.input_layernorm(x_BTC), rotary, mask)
        x_BTC = x_BTC + F.dropout(attended, self.dropout, self.training)
        return x_BTC + F.dropout(self.mlp(self.post_attention_layernorm(x_BTC)), self.dropout, self.training)


class Backbone(nn.Module):
    """Embedding, blocks and final norm: the part that Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)


class Transformer(LanguageModel):
    """The language model: token ids in, logits out.

    Args:
        config: the shape, or a mapping of its names.

    Raises:
        LifelongError: a name or a value of the mapping does not fit.
    """

    config: ModelConfig

    def __init__(self, config: ModelConfig | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            config = validate(ModelConfig, config)
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise()

    def set_dropout(self, share: float) -> None:
        """Leave out another share of the activations while training; a model directory does not hold it."""
        self.config = self.config.model_copy(update={"dropout": share})
        for block in self.model.layers:
            assert isinstance(block, Block)
            block.dropout = share

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            # Every block starts as the identity (Zhang et al. 2019, "Fixup"): the first steps train a shallow model.
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            else:
                parameter.normal_(std=0.02)

    def hidden(
        self,
        input_ids: Tensor,
        *,
        positions: Tensor | None = None,
        segment_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the final normed states (B, T, C) of token ids (B, T).

        ``segment_ids`` (B, T) keep packed examples apart: a token attends within its own segment only.
        """
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta)
        if positions.ndim == 2:
            cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        mask = self._mask(segment_ids)
        x_BTC = self.model.embed_tokens(input_ids)
        x_BTC = F.dropout(x_BTC, self.config.dropout, self.training)
        for block in self.model.layers:
            x_BTC = block(x_BTC, (cos, sin), mask)
        states: Tensor = self.model.norm(x_BTC)
        return states

    def _mask(self, segment_ids: Tensor | None) -> Tensor | None:
        """Return a mask that is True where attention is allowed, or None where the kernel's own causal mask will do."""
        if segment_ids is None:
            return None
        same = segment_ids.unsqueeze(2) == segment_ids.unsqueeze(1)
        return (same.tril() if self.config.causal else same).unsqueeze(1)

    def forward(
        self,
        input_ids: Tensor,
        *,
        positions: Tensor | None = None,
        segment_ids: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, T, V); see `hidden` for the arguments."""
        states = self.hidden(input_ids, positions=positions, segment_ids=segment_ids)
        logits: Tensor = self.lm_head(states)
        return logits

    @property
    def output_weight(self) -> Tensor:
        """The output layer's matrix (V, C)."""
        return self.lm_head.weight

    @property
    def tied_names(self) -> frozenset[str]:
        """The output layer's name, where it is the embedding."""
        return frozenset({"lm_head.weight"} if self.config.tie_embeddings else ())

    def new_decoder(self, rows: int, length: int, experts: int = 1) -> StaticDecoder:
        """Return a reader with a cache for ``rows`` texts of at most ``length`` tokens."""
        return StaticDecoder(self, rows, length, experts)
