"""Reading token by token, many texts side by side: keys and values of what was read are kept.

`lifelong.model.kernel_decoding` is for our own transformer on a CPU, `StaticDecoder` where that cannot read. Both have
one preallocated cache, in which every text has its own length, so that texts come and go while others go on.
`lifelong.model.group_decoding` is for models of `transformers`.

Shape letters: E experts, B rows (texts), T time, C d_model, Q query heads, K key-value heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lifelong.model.decoding_layers import JoinedLayer, ModuleLayer

if TYPE_CHECKING:
    from lifelong.model.transformer import Transformer

_PASS = 8192  # positions that are read in one pass at most, unless one text is longer
# Below this many bytes of weights, calls take longer than products, and joined copies of the weights pay.
_JOINED = 100_000_000


class Decoder(Protocol):
    """What writing text needs of a model. Rows are numbered from 0 without gaps.

    Attributes:
        exact: what follows a text is the same to the bit, whatever is read beside it.
    """

    exact: bool

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

    exact = False

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
        self._layers: Sequence[JoinedLayer | ModuleLayer]
        self._layers = [JoinedLayer(block) for block in blocks] if joined else [ModuleLayer(block) for block in blocks]

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
