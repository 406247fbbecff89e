"""A layer of our transformer as reading token by token computes it: with its own modules, or with products joined.

Shape letters: C d_model, Q query heads, K key-value heads, D head_dim.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from lifelong.model.transformer import Block


class ModuleLayer:
    """A layer as its own modules compute it, with adapters or without."""

    def __init__(self, block: Block) -> None:
        self._block, self._size = block, block.self_attn.config.head_dim

    def attend_to(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys (..., Q + K, D) at their positions, and values (..., K, D), of states (..., C)."""
        attention = self._block.self_attn
        x = self._block.input_layernorm(x)
        heads = (*x.shape[:-1], -1, self._size)
        q, k, v = attention.q_proj(x).view(heads), attention.k_proj(x).view(heads), attention.v_proj(x).view(heads)
        if attention.config.qk_norm:
            q, k = attention.q_norm(q), attention.k_norm(k)
        return _turn(torch.cat((q, k), dim=-2), cos, sin), v

    def finish(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the states after attention, whose heads give y (..., Q·D), and the feed-forward."""
        x = x + self._block.self_attn.o_proj(y)
        out: Tensor = x + self._block.mlp(self._block.post_attention_layernorm(x))
        return out


class JoinedLayer:
    """A layer with its products joined: of a small model at batch 1, the calls are most of the time.

    Queries, keys and values are one product, gate and up another; the norms' weights and the adapter are part of the
    matrices. What is left of a norm is a division: √C·x / √(|x|² + C·ε).
    """

    def __init__(self, block: Block) -> None:
        attention, mlp, config = block.self_attn, block.mlp, block.self_attn.config
        self._width = torch.tensor(math.sqrt(config.d_model * config.norm_eps), device=attention.q_proj.weight.device)
        before, after = (
            norm.weight.detach() * math.sqrt(config.d_model)
            for norm in (block.input_layernorm, block.post_attention_layernorm)
        )
        heads = [attention.q_proj, attention.k_proj, attention.v_proj]
        self._qkv = torch.cat([merged(layer) for layer in heads]) * before
        self._out, self._down = merged(attention.o_proj), merged(mlp.down_proj)
        self._gate_up = torch.cat([merged(mlp.gate_proj), merged(mlp.up_proj)]) * after
        self._heads, self._both = config.head_dim, config.num_query_heads + config.num_kv_heads
        self._head_norms: Tensor | None = None
        if config.qk_norm:
            self._head_width = self._width.new_tensor(math.sqrt(config.head_dim * config.norm_eps))
            queries, keys = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
            each = [queries] * config.num_query_heads + [keys] * config.num_kv_heads
            self._head_norms = torch.stack(each) * math.sqrt(config.head_dim)

    def attend_to(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys, and values; see `ModuleLayer.attend_to`."""
        heads = F.linear(_scaled(x, self._width), self._qkv).unflatten(-1, (-1, self._heads))
        qk, v = heads[..., : self._both, :], heads[..., self._both :, :]
        if self._head_norms is not None:
            qk = _scaled(qk, self._head_width) * self._head_norms
        return _turn(qk, cos, sin), v

    def finish(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the states after attention and feed-forward; see `ModuleLayer.finish`."""
        x = x + F.linear(y, self._out)
        gate, up = F.linear(_scaled(x, self._width), self._gate_up).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self._down)


def merged(layer: Any) -> Tensor:
    """Return a layer's weight with its adapter's part."""
    weight: Tensor = layer.weight.detach()
    return weight if layer.adapter is None else weight + layer.adapter.delta().detach()


def _scaled(x: Tensor, width: Tensor) -> Tensor:
    """Return x / √(|x|² + width²) over the last dimension."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.hypot(length, width)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x (..., heads, D) rotated; see `lifelong.model.transformer.rotate`, and `StaticDecoder` on the tables."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin).to(x.dtype)
