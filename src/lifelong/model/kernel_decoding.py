"""Reading token by token with compiled code (`kernel.c`), many texts side by side.

Shape letters: B rows (texts), T time, C d_model, Q query heads, K key-value heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lifelong.model import kernel
from lifelong.model.decoding_layers import merged

if TYPE_CHECKING:
    from lifelong.model.transformer import Block, Transformer

Precision = Literal["fp32", "bf16", "int8"]

_PANEL = 16  # outputs that lie side by side
_CHUNK = 192
_BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.int8: 1}


@dataclass
class _Packed:
    """A matrix as the kernel wants it: weights (outputs / 16, inputs, 16), scales (outputs,)."""

    weights: Tensor
    scales: Tensor | None

    def address(self) -> kernel.Matrix:
        panels, inputs, _ = self.weights.shape
        scales = None if self.scales is None else self.scales.data_ptr()
        return kernel.Matrix(self.weights.data_ptr(), scales, panels * _PANEL, inputs, _BYTES[self.weights.dtype])


def pack(weights: Sequence[Tensor], precision: Precision) -> _Packed:
    """Pack matrices (outputs, inputs) with their outputs one behind the other; each is filled up to 16 outputs.

    fp32 weights whose lower half is 0, as those of a model that was published in bf16, are held in 16 bits: nothing is
    lost. int8 has a scale for each output, the largest weight's size divided by 127.
    """
    filled = torch.cat([F.pad(weight, (0, 0, 0, -len(weight) % _PANEL)) for weight in weights])
    scales = None
    half = filled.bfloat16()
    if precision == "int8":
        scales = filled.abs().amax(1).clamp(min=1e-30) / 127
        filled = (filled / scales.unsqueeze(1)).round_().to(torch.int8)
    elif precision == "bf16" or torch.equal(half.float(), filled):
        filled = half
    return _Packed(filled.unflatten(0, (-1, _PANEL)).transpose(1, 2).contiguous(), scales)


@dataclass
class _Weights:
    """All matrices of a model, packed, in the order of `kernel.Layer`, the output's last."""

    precision: Precision
    made_of: list[tuple[Tensor, int, int]]  # parameters, where their values lie and how often they were changed
    matrices: list[_Packed]


# Packing takes longer than writing a short text; between two texts the weights mostly stay as they are.
_known: weakref.WeakKeyDictionary[Transformer, _Weights] = weakref.WeakKeyDictionary()


def can_read(model: Transformer) -> bool:
    """Whether compiled code can read with this model here."""
    config, weight = model.config, model.output_weight
    return (
        weight.device.type == "cpu"
        and all(parameter.dtype == torch.float32 for parameter in model.parameters())
        and not any(
            size % _PANEL for size in (config.d_model, config.head_dim, _blocks(model)[0].mlp.up_proj.weight.shape[0])
        )
        and kernel.load_kernel() is not None
    )


def _blocks(model: Transformer) -> list[Block]:
    return list(model.model.layers)  # type: ignore[arg-type]


def _weights(model: Transformer, precision: Precision) -> _Weights:
    """Return the model's matrices, packed; those of the last call if nothing has changed."""
    made_of = [(tensor, tensor.data_ptr(), tensor._version) for tensor in _sources(model)]
    known = _known.get(model)
    if known is not None and known.precision == precision and len(known.made_of) == len(made_of):
        pairs = zip(known.made_of, made_of, strict=True)
        if all(old[0] is new[0] and old[1:] == new[1:] for old, new in pairs):
            return known
    matrices = []
    for block in _blocks(model):
        attention, mlp = block.self_attn, block.mlp
        heads = [torch.cat([merged(layer) for layer in (attention.q_proj, attention.k_proj, attention.v_proj)])]
        gate_up = [merged(mlp.gate_proj), merged(mlp.up_proj)]
        matrices += [
            pack(one, precision) for one in (heads, [merged(attention.o_proj)], gate_up, [merged(mlp.down_proj)])
        ]
    matrices.append(pack([model.output_weight.detach()], precision))
    found = _known[model] = _Weights(precision, made_of, matrices)
    return found


def _sources(model: Transformer) -> Iterable[Tensor]:
    for block in _blocks(model):
        for part in (block.self_attn, block.mlp):
            yield from part.parameters()
    yield model.output_weight


class KernelDecoder:
    """Reads with our own transformer on a CPU; see `lifelong.model.decoding.Decoder`.

    What a text reads and is told does not depend on what is read beside it, to the bit (``exact``).

    Args:
        model: a causal model that `can_read`; its weights must stay as they are.
        rows: texts side by side at most.
        length: tokens of a text at most.
        precision: of the weights while reading. Keys, values and sums are fp32.
    """

    exact = True

    def __init__(self, model: Transformer, rows: int, length: int, precision: Precision = "fp32") -> None:
        from lifelong.model.transformer import rotary_tables

        config = model.config
        library = kernel.load_kernel()
        assert library is not None
        self._read_tokens, self._vocab = library.read_tokens, config.vocab_size
        packed = _weights(model, precision).matrices
        shape = (len(model.model.layers), rows, config.num_kv_heads, length, config.head_dim)
        # Behind the last text's keys up to seven more are read, and not used.
        self.keys, self.values = (
            torch.zeros(math.prod(shape) + 8 * config.head_dim)[: -8 * config.head_dim].view(shape) for _ in range(2)
        )
        threads = torch.get_num_threads()
        cos, sin = rotary_tables(torch.arange(length), config.head_dim, config.rope_theta)
        wide = max(len(one.weights) for number, one in enumerate(packed[:-1]) if number % 4 in (0, 2)) * _PANEL
        attended = config.num_query_heads * config.head_dim
        space = [torch.empty(_CHUNK, size) for size in (config.d_model, config.d_model, wide, attended)]
        space.append(torch.empty(threads, length + 8))
        layers = (kernel.Layer * len(self.keys))()
        for number, block in enumerate(_blocks(model)):
            attention = block.self_attn
            norms = [block.input_layernorm, block.post_attention_layernorm]
            head_norms = [attention.q_norm, attention.k_norm] if config.qk_norm else []
            layers[number] = kernel.Layer(
                *(one.address() for one in packed[4 * number : 4 * number + 4]),
                *(norm.weight.data_ptr() for norm in norms),
                *([norm.weight.data_ptr() for norm in head_norms] or [None, None]),
                self.keys[number].data_ptr(),
                self.values[number].data_ptr(),
            )
        embeddings, norm = model.model.embed_tokens.weight, model.model.norm.weight
        self._model = kernel.Model(
            len(self.keys), config.d_model, config.num_query_heads, config.num_kv_heads, config.head_dim,
            wide, length, threads, config.norm_eps, 1 / math.sqrt(config.head_dim),
            embeddings.data_ptr(), cos.data_ptr(), sin.data_ptr(), norm.data_ptr(), packed[-1].address(), layers,
        )  # fmt: skip
        self._space = kernel.Space(*(part.data_ptr() for part in space))
        self._kept = (model, packed, cos, sin, space, layers)  # what the addresses lead to
        self._lengths: list[int] = []  # of every row
        self._width = len(packed[-1].weights) * _PANEL  # of logits

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Begin a row for each prompt; equal ones are read once. Return what follows them, (1, prompts, V)."""
        first = len(self._lengths)
        self._lengths += [len(prompt) for prompt in prompts]
        unique: dict[tuple[int, ...], int] = {}
        source = [unique.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompts, start=first)]
        tokens = [(token, row, at) for ids, row in unique.items() for at, token in enumerate(ids)]
        ends = [len(ids) for ids in unique]
        logits = self._run(torch.tensor(tokens).T.contiguous(), (torch.tensor(ends).cumsum(0) - 1).tolist())
        for row, same in enumerate(source, start=first):
            if row != same:
                self._copy(same, row)
        places = {row: number for number, row in enumerate(unique.values())}
        return logits[[places[row] for row in source]].unsqueeze(0)

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of every row, (rows,); return logits (1, rows, V) of what follows."""
        rows = len(self._lengths)
        read = torch.stack((tokens, torch.arange(rows), torch.tensor(self._lengths)))
        self._lengths = [length + 1 for length in self._lengths]
        return self._run(read, range(rows)).unsqueeze(0)

    def _run(self, tokens: Tensor, wanted: Sequence[int]) -> Tensor:
        """Read tokens (3, n): their ids, rows and positions; return logits (wanted, V) behind some of them."""
        logits = torch.empty(len(wanted), self._width)
        done = 0
        for start in range(0, tokens.shape[1], _CHUNK):
            ids, rows, positions = part = tokens[:, start : start + _CHUNK].contiguous()
            own = [number - start for number in wanted[done:] if number < start + _CHUNK]
            ends = torch.tensor(own, dtype=torch.long)
            self._read_tokens(
                ctypes.byref(self._model), ctypes.byref(self._space), part.shape[1],
                ids.data_ptr(), rows.data_ptr(), positions.data_ptr(),
                len(own), ends.data_ptr(), logits[done:].data_ptr(),
            )  # fmt: skip
            done += len(own)
        return logits[:, : self._vocab]

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        last = len(self._lengths) - 1
        if row != last:
            self._copy(last, row)
            self._lengths[row] = self._lengths[last]
        self._lengths.pop()

    def keep_experts(self, numbers: Sequence[int]) -> None:
        """There is one model only."""

    def _copy(self, source: int, target: int) -> None:
        end = self._lengths[source]
        for part in (self.keys, self.values):
            part[:, target, :, :end] = part[:, source, :, :end]
