"""Reading token by token with compiled code (`kernel.c`), many texts side by side.

Shape letters: E experts, B rows (texts), T time, C d_model, K key-value heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lifelong.model import kernel
from lifelong.model.packing import PANEL, blocks_of, branches_of, packed, products_of

if TYPE_CHECKING:
    from lifelong.model.transformer import Transformer

_CHUNK = 192  # tokens of all experts that are read in one call at most


def can_read(model: Transformer) -> bool:
    """Whether compiled code can read with this model here."""
    config = model.config
    hidden = blocks_of(model)[0].mlp.down_proj.weight.shape[1]
    return (
        all(parameter.device.type == "cpu" and parameter.dtype == torch.float32 for parameter in model.parameters())
        and not any(size % PANEL for size in (config.d_model, config.head_dim, hidden))
        and kernel.load_kernel() is not None
    )


class KernelDecoder:
    """Reads with our own transformer on a CPU; see `lifelong.model.decoding.Decoder`.

    What follows a text does not depend on what is read beside it, to the bit.

    Args:
        model: a causal model that `can_read`; its weights must stay as they are. `model.precision` says how they
            are held; keys, values and sums are fp32.
        rows: texts side by side at most.
        length: tokens of a text at most.
        experts: how many compute at once; see `lifelong.model.experts.all_experts`.
    """

    exact = True

    def __init__(self, model: Transformer, rows: int, length: int, experts: int = 1) -> None:
        from lifelong.model.transformer import rotary_tables

        library = kernel.load_kernel()
        assert library is not None
        self._read_tokens, self._model, config = library.read_tokens, model, model.config
        self._rows, self._experts, self._length = rows, experts, length
        self._packed = packed(model, model.precision).matrices
        self._branches = [branches_of(part, experts) for block in blocks_of(model) for part in products_of(block)]
        self._tables = rotary_tables(torch.arange(length), config.head_dim, config.rope_theta)
        self._threads = torch.get_num_threads()
        wide = max(one.outputs for one in self._packed[:-1])
        low = max((one[0].outputs for product in self._branches for one in product or () if one), default=0)
        attended = config.num_query_heads * config.head_dim
        self._parts = [
            torch.empty(max(_CHUNK, experts), size) for size in (config.d_model, config.d_model, wide, attended, low)
        ]
        self._parts.append(torch.empty(self._threads, length + 8))
        self._room = ctypes.byref(kernel.Space(*(part.data_ptr() for part in self._parts)))
        self.keys, self.values = self._new_cache(), self._new_cache()
        self._lengths: list[int] = []  # of every row
        self._numbers, self._vocab = torch.arange(rows), config.vocab_size
        self._connect()

    def _new_cache(self) -> Tensor:
        """Return zeros (layers, E, B, K, T, D)."""
        config = self._model.config
        shape = (config.num_layers, self._experts, self._rows, config.num_kv_heads, self._length, config.head_dim)
        # Behind a text's last key up to seven more are read, and not used.
        return torch.zeros(math.prod(shape) + 8 * config.head_dim)[: -8 * config.head_dim].view(shape)

    def _connect(self) -> None:
        """Tell where everything lies."""
        config, backbone = self._model.config, self._model.model
        layers = (kernel.Layer * config.num_layers)()
        lists: list[Any] = []
        for number, block in enumerate(blocks_of(self._model)):
            mine = slice(4 * number, 4 * number + 4)
            attention = block.self_attn
            norms: list[Any] = [block.input_layernorm, block.post_attention_layernorm]
            norms += [attention.q_norm, attention.k_norm] if config.qk_norm else []
            addresses = [norm.weight.data_ptr() for norm in norms]
            added = [_addresses(branches) for branches in self._branches[mine]]
            lists += added
            layers[number] = kernel.Layer(
                tuple(one.address() for one in self._packed[mine]),
                tuple(ctypes.cast(one, ctypes.POINTER(kernel.Branch)) for one in added),
                *[*addresses, None, None][:4],
                self.keys[number].data_ptr(),
                self.values[number].data_ptr(),
            )
        sizes = config.num_layers, self._experts, config.d_model, config.num_query_heads, config.num_kv_heads
        facts = kernel.Model(
            *sizes, config.head_dim, self._length, self._threads,
            config.norm_eps, 1 / math.sqrt(config.head_dim),
            backbone.embed_tokens.weight.data_ptr(), *(table.data_ptr() for table in self._tables),
            backbone.norm.weight.data_ptr(), self._packed[-1].address(), layers,
        )  # fmt: skip
        self._where = ctypes.byref(facts)
        self._lists = layers, lists  # ctypes keeps no array alive that it points to

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Begin a row for each prompt; equal ones are read once. Return what follows them, (E, prompts, V)."""
        first = len(self._lengths)
        self._lengths += [len(prompt) for prompt in prompts]
        unique: dict[tuple[int, ...], int] = {}
        source = [unique.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompts, start=first)]
        tokens = [(token, row, at) for ids, row in unique.items() for at, token in enumerate(ids)]
        ends = [end - 1 for end in accumulate(map(len, unique))]
        logits = self._run(torch.tensor(tokens).T.contiguous(), torch.tensor(ends))
        for row, same in enumerate(source, start=first):
            if row != same:
                self._copy(same, row)
        places = {row: number for number, row in enumerate(unique.values())}
        return logits[:, [places[row] for row in source]]

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of every row, (rows,); return logits (E, rows, V) of what follows."""
        rows = self._numbers[: len(self._lengths)]
        positions = torch.tensor(self._lengths)
        self._lengths = [length + 1 for length in self._lengths]
        if len(rows) * self._experts <= _CHUNK:
            return self._read(tokens.contiguous(), rows, positions, rows)
        return self._run(torch.stack((tokens, rows, positions)), rows)

    def _run(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        """Read tokens (3, n): their ids, rows and positions; return logits (E, wanted, V) behind some of them."""
        chunk = max(1, _CHUNK // self._experts)
        found = []
        for start in range(0, tokens.shape[1], chunk):
            own = wanted[(wanted >= start) & (wanted < start + chunk)] - start
            ids, rows, positions = tokens[:, start : start + chunk]
            found.append(self._read(ids, rows, positions, own))
        return torch.cat(found, dim=1)

    def _read(self, ids: Tensor, rows: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """Read tokens that fit the space, each (n,); see `_run`."""
        experts, size = self._experts, len(ids)
        # Compiled code does not look where it reads: what torch would refuse is refused here.
        least, most = ids.aminmax()
        if least < 0 or most >= self._vocab:
            raise IndexError(f"token {int(least)} or {int(most)} is none of the model's {self._vocab}")
        if len(self._lengths) > self._rows or max(self._lengths) > self._length:
            raise IndexError(f"{len(self._lengths)} texts of {max(self._lengths)} tokens find no room")
        logits = torch.empty(experts, len(wanted), self._packed[-1].outputs)
        if experts > 1:
            numbers = torch.arange(experts).unsqueeze(1)
            ids, positions = ids.repeat(experts), positions.repeat(experts)
            rows, wanted = (rows + numbers * self._rows).flatten(), (wanted + numbers * size).flatten()
        self._read_tokens(
            self._where, self._room, experts * size, ids.data_ptr(), rows.data_ptr(), positions.data_ptr(),
            len(wanted), wanted.data_ptr(), logits.data_ptr(),
        )  # fmt: skip
        return logits[..., : self._vocab]

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        last = len(self._lengths) - 1
        if row != last:
            self._copy(last, row)
            self._lengths[row] = self._lengths[last]
        self._lengths.pop()

    def keep_experts(self, numbers: Sequence[int]) -> None:
        """Forget what the other experts read; the memory of their keys and values is free."""
        kept = list(numbers)
        self._experts = len(kept)
        self._branches = [branches and [branches[number] for number in kept] for branches in self._branches]
        old = self.keys, self.values
        self.keys, self.values = self._new_cache(), self._new_cache()
        for target, source in zip((self.keys, self.values), old, strict=True):
            target.copy_(source[:, kept])
        self._connect()

    def _copy(self, source: int, target: int) -> None:
        end = self._lengths[source]
        for part in (self.keys, self.values):
            part[:, :, target, :, :end] = part[:, :, source, :, :end]


def _addresses(branches: Sequence[Any] | None) -> Any:
    """Return an array of what every expert adds, or None."""
    if branches is None:
        return None
    none = kernel.Matrix(None, 0, 0, 4)
    pairs = [(none, none) if one is None else (one[0].address(), one[1].address()) for one in branches]
    return (kernel.Branch * len(pairs))(*(kernel.Branch(*pair) for pair in pairs))
