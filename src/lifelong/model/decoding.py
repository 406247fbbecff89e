"""Reading token by token, many texts side by side: keys and values of what was read are kept.

`StaticDecoder` is for our own transformer: one preallocated cache, in which every text has its own length, so that
texts come and go while others go on. `GroupDecoder` is for models of `transformers`, which keep caches of their own.

Shape letters: E experts, B rows (texts), T time, C d_model, Q query heads, K key-value heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from lifelong.model.foreign import ForeignModel
    from lifelong.model.transformer import Block, Transformer

_PASS = 8192  # positions that are read in one pass at most, unless one text is longer
# Below this many bytes of weights, calls take longer than products, and joined copies of the weights pay.
_JOINED = 100_000_000


class Decoder(Protocol):
    """What writing text needs of a model. Rows are numbered from 0 without gaps."""

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Begin a row for each prompt behind those there are; return what follows them, (E, prompts, V)."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of every row, (rows,); return logits (E, rows, V) of what follows."""
        ...

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        ...

    def keep_experts(self, numbers: Sequence[int]) -> None:
        """Forget what the other experts read."""
        ...


class StaticDecoder:
    """Reads with our own transformer; it must be in evaluation mode, and its weights must stay as they are.

    Args:
        model: a causal model. Under `lifelong.model.experts.all_experts` its layers compute all experts at once.
        rows: texts side by side at most.
        length: tokens of a text at most.
        experts: how many compute at once.
    """

    def __init__(self, model: Transformer, rows: int, length: int, experts: int = 1) -> None:
        from lifelong.model.transformer import Block, rotary_tables

        self._model, self._config, self._experts = model, model.config, experts
        weight = model.output_weight
        shape = (experts, rows, self._config.num_kv_heads, length, self._config.head_dim)
        self.keys = [weight.new_zeros(shape) for _ in model.model.layers]
        self.values = [weight.new_zeros(shape) for _ in model.model.layers]
        positions = torch.arange(length, device=weight.device)
        cos, sin = rotary_tables(positions, self._config.head_dim, self._config.rope_theta)
        half = self._config.head_dim // 2
        # (T, D): with these, rotating is x·cos + roll(x)·sin, with no part of x copied.
        self._cos, self._sin = cos, torch.cat((-sin[:, :half], sin[:, half:]), dim=1)
        self._positions, self._numbers = positions, torch.arange(rows, device=weight.device)
        self._lengths: list[int] = []  # of every row
        self._indices = torch.zeros(0, dtype=torch.long, device=weight.device)  # the same
        size = sum(parameter.nbytes for parameter in model.model.layers.parameters())
        joined = experts == 1 and size <= _JOINED and weight.dtype == torch.float32
        blocks = [block for block in model.model.layers if isinstance(block, Block)]
        self._layers: Sequence[_Joined | _Modules]
        self._layers = [_Joined(block) for block in blocks] if joined else [_Modules(block) for block in blocks]

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Begin a row for each prompt; equal ones are read once, and short ones together."""
        first = len(self._lengths)
        self._lengths += [len(prompt) for prompt in prompts]
        self._follow()
        unique: dict[tuple[int, ...], int] = {}
        source = [unique.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompts, start=first)]
        found: dict[int, Tensor] = {}
        for chunk in _chunks(sorted(unique.items(), key=lambda item: len(item[0]))):
            rows = [row for _, row in chunk]
            logits = self._read_chunk([ids for ids, _ in chunk], rows)
            found.update(zip(rows, logits.unbind(1), strict=True))
        for row, same in enumerate(source, start=first):
            if row != same:
                self._copy(same, row)
        return torch.stack([found[row] for row in source], dim=1)

    def _read_chunk(self, prompts: list[tuple[int, ...]], rows: list[int]) -> Tensor:
        """Read prompts that are filled up behind their ends, which what precedes them does not see."""
        device, experts, count = self._positions.device, self._experts, len(prompts)
        lengths = [len(prompt) for prompt in prompts]
        time = max(lengths)
        ids_BT = torch.zeros(count, time, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids_BT[row, : len(prompt)] = torch.tensor(prompt)
        x = self._model.model.embed_tokens(ids_BT.to(device).repeat(experts, 1))
        cos, sin = self._cos[:time].unsqueeze(1), self._sin[:time].unsqueeze(1)
        queries = self._config.num_query_heads
        for layer, keys, values in zip(self._layers, self.keys, self.values, strict=True):
            qk, v = layer.attend_to(x, cos, sin)
            q, k, v = qk[..., :queries, :].transpose(1, 2), qk[..., queries:, :].transpose(1, 2), v.transpose(1, 2)
            keys[:, rows, :, :time] = k.unflatten(0, (experts, count))
            values[:, rows, :, :time] = v.unflatten(0, (experts, count))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=time > 1, enable_gqa=q.shape[1] != k.shape[1])
            x = layer.finish(x, y.transpose(1, 2).flatten(2))
        last = torch.tensor(lengths, device=device).repeat(experts) - 1
        return self._logits(x[torch.arange(len(last), device=device), last])

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of every row, (rows,); return logits (E, rows, V) of what follows."""
        experts, rows = self._experts, len(self._lengths)
        longest = max(self._lengths)
        even = longest == min(self._lengths)
        end = longest + 1
        mask = None
        if even:
            cos, sin = self._cos[longest], self._sin[longest]
        else:
            cos, sin = (table[self._indices].unsqueeze(1).repeat(experts, 1, 1) for table in (self._cos, self._sin))
            # Added to the scores, (E·B, 1, 1, T): made once for all layers.
            seen = self._positions[:end] <= self._indices.unsqueeze(1)
            mask = torch.zeros(seen.shape, dtype=self._cos.dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            mask = mask[:, None, None].repeat(experts, 1, 1, 1)
        x = self._model.model.embed_tokens(tokens)
        if experts > 1:
            x = x.repeat(experts, 1)
        queries, kept = self._config.num_query_heads, self._config.num_kv_heads
        group = (experts * rows, kept, queries // kept, self._config.head_dim)
        for layer, all_keys, all_values in zip(self._layers, self.keys, self.values, strict=True):
            qk, v = layer.attend_to(x, cos, sin)
            k = qk[:, queries:]
            if experts == 1:
                keys, values = all_keys[0, :rows], all_values[0, :rows]
            else:
                keys, values = all_keys[:, :rows], all_values[:, :rows]
                k, v = k.unflatten(0, (experts, rows)), v.unflatten(0, (experts, rows))
            if even:
                keys.select(-2, longest).copy_(k)
                values.select(-2, longest).copy_(v)
            else:
                row = self._numbers[:rows]
                keys[..., row, :, self._indices, :] = k if experts == 1 else k.transpose(0, 1)
                values[..., row, :, self._indices, :] = v if experts == 1 else v.transpose(0, 1)
            keys, values = keys[..., :end, :], values[..., :end, :]
            if experts > 1:
                keys, values = keys.flatten(0, 1), values.flatten(0, 1)
            # The query heads of one key-value head stand side by side, as if they were times: nothing is repeated.
            y = F.scaled_dot_product_attention(qk[:, :queries].reshape(group), keys, values, attn_mask=mask)
            x = layer.finish(x, y.reshape(experts * rows, -1))
        self._lengths = [length + 1 for length in self._lengths]
        self._indices = self._indices + 1
        return self._logits(x)

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        last = len(self._lengths) - 1
        if row != last:
            self._copy(last, row)
            self._lengths[row] = self._lengths[last]
        self._lengths.pop()
        self._follow()

    def keep_experts(self, numbers: Sequence[int]) -> None:
        """Forget what the other experts read; the memory of their keys and values is free."""
        for parts in (self.keys, self.values):
            parts[:] = [part[list(numbers)] for part in parts]
        self._experts = len(numbers)

    def _copy(self, source: int, target: int) -> None:
        end = self._lengths[source]
        for part in (*self.keys, *self.values):
            part[:, target, :, :end] = part[:, source, :, :end]

    def _follow(self) -> None:
        self._indices = torch.tensor(self._lengths, dtype=torch.long, device=self._positions.device)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self._model.lm_head(self._model.model.norm(x))
        return logits.view(self._experts, -1, logits.shape[-1])


class _Modules:
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


class _Joined:
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
        self._qkv = torch.cat([_merged(layer) for layer in heads]) * before
        self._out, self._down = _merged(attention.o_proj), _merged(mlp.down_proj)
        self._gate_up = torch.cat([_merged(mlp.gate_proj), _merged(mlp.up_proj)]) * after
        self._heads, self._both = config.head_dim, config.num_query_heads + config.num_kv_heads
        self._head_norms: Tensor | None = None
        if config.qk_norm:
            self._head_width = self._width.new_tensor(math.sqrt(config.head_dim * config.norm_eps))
            queries, keys = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
            each = [queries] * config.num_query_heads + [keys] * config.num_kv_heads
            self._head_norms = torch.stack(each) * math.sqrt(config.head_dim)

    def attend_to(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys, and values; see `_Modules.attend_to`."""
        heads = F.linear(_scaled(x, self._width), self._qkv).unflatten(-1, (-1, self._heads))
        qk, v = heads[..., : self._both, :], heads[..., self._both :, :]
        if self._head_norms is not None:
            qk = _scaled(qk, self._head_width) * self._head_norms
        return _turn(qk, cos, sin), v

    def finish(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the states after attention and feed-forward; see `_Modules.finish`."""
        x = x + F.linear(y, self._out)
        gate, up = F.linear(_scaled(x, self._width), self._gate_up).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self._down)


def _merged(layer: Any) -> Tensor:
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


def _chunks(prompts: list[tuple[tuple[int, ...], int]]) -> Iterator[list[tuple[tuple[int, ...], int]]]:
    """Yield prompts, shortest first, in parts of which at most a half is filling."""
    part: list[tuple[tuple[int, ...], int]] = []
    tokens = 0
    for ids, row in prompts:
        space = (len(part) + 1) * len(ids)
        if part and (space > 2 * (tokens + len(ids)) or space > _PASS):
            yield part
            part, tokens = [], 0
        part.append((ids, row))
        tokens += len(ids)
    yield part


class GroupDecoder:
    """Reads with a model of `transformers`: prompts of one length that begin together share one of its caches.

    Args:
        model: in evaluation mode.
        length: tokens of a text at most.
        experts: how many compute at once; see `StaticDecoder`.
    """

    def __init__(self, model: ForeignModel, length: int, experts: int = 1) -> None:
        self._model, self._length, self._experts = model, length, experts
        self._groups: list[tuple[list[int], Any]] = []  # numbers of rows, and their cache
        self._rows = 0

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Begin a row for each prompt; those of one length are read together."""
        first = self._rows
        self._rows += len(prompts)
        found: dict[int, Tensor] = {}
        for length in sorted({len(prompt) for prompt in prompts}):
            rows = [row for row, prompt in enumerate(prompts, start=first) if len(prompt) == length]
            ids = torch.tensor([list(prompts[row - first]) for row in rows], device=self._model.device)
            cache = self._model.new_cache(self._experts * len(rows), self._length)
            self._groups.append((rows, cache))
            found.update(self._logits(rows, ids, cache))
        return torch.stack([found[row] for row in range(first, self._rows)], dim=1)

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of every row, (rows,); return logits (E, rows, V) of what follows."""
        found: dict[int, Tensor] = {}
        for rows, cache in self._groups:
            found.update(self._logits(rows, tokens[rows].unsqueeze(1), cache))
        return torch.stack([found[row] for row in range(self._rows)], dim=1)

    def _logits(self, rows: list[int], ids: Tensor, cache: Any) -> dict[int, Tensor]:
        logits = self._model.next_logits(ids.repeat(self._experts, 1), cache)
        return dict(zip(rows, logits.unflatten(0, (self._experts, -1)).unbind(1), strict=True))

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        self._rows -= 1
        for number, (rows, cache) in enumerate(self._groups):
            if row in rows:
                kept = [index for index, other in enumerate(rows) if other != row]
                rows.remove(row)
                if rows:
                    self._keep(cache, range(self._experts), len(kept) + 1, kept)
                else:
                    del self._groups[number]
                break
        for rows, _ in self._groups:
            rows[:] = [row if other == self._rows else other for other in rows]

    def keep_experts(self, numbers: Sequence[int]) -> None:
        """Forget what the other experts read."""
        for rows, cache in self._groups:
            self._keep(cache, numbers, len(rows), range(len(rows)))
        self._experts = len(numbers)

    def _keep(self, cache: Any, experts: Sequence[int], count: int, rows: Sequence[int]) -> None:
        kept = [expert * count + row for expert in experts for row in rows]
        self._model.keep_rows(cache, torch.tensor(kept, device=self._model.device))
