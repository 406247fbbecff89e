"""A model's matrices as compiled code (`kernel.c`) reads them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lifelong.model import kernel

if TYPE_CHECKING:
    from lifelong.model.transformer import Block, Transformer

Precision = Literal["fp32", "bf16"]

PANEL = 16  # outputs that lie side by side
_BYTES = {torch.float32: 4, torch.bfloat16: 2}


@dataclass
class Packed:
    """A matrix (outputs, inputs): weights (outputs / 16, inputs, 16)."""

    weights: Tensor

    @property
    def outputs(self) -> int:
        """Its outputs, with those it was filled up with."""
        return len(self.weights) * PANEL

    def address(self) -> kernel.Matrix:
        """Return where it lies; it must live as long."""
        return kernel.Matrix(self.weights.data_ptr(), self.outputs, self.weights.shape[1], _BYTES[self.weights.dtype])


def pack(weights: Tensor, precision: Precision = "fp32") -> Packed:
    """Pack a matrix (outputs, inputs), filled up with zeros to a multiple of 16 outputs.

    fp32 weights whose lower half is 0, as those of a model that was published in bf16, are held in 16 bits: nothing is
    lost.
    """
    filled = F.pad(weights, (0, 0, 0, -len(weights) % PANEL))
    half = filled.bfloat16()
    if precision == "bf16" or torch.equal(half.float(), filled):
        filled = half
    panels = filled.unflatten(0, (-1, PANEL)).transpose(1, 2)
    if filled.dtype == torch.bfloat16:  # a word holds output i and output i + 8
        panels = panels.unflatten(2, (2, PANEL // 2)).transpose(2, 3).flatten(2)
    return Packed(panels.contiguous())


def blocks_of(model: Transformer) -> list[Block]:
    """Return the model's layers."""
    return cast("list[Block]", list(model.model.layers))


def products_of(block: Block) -> list[list[Any]]:
    """Return the linear layers of a block that are one product each, in the order of `kernel.Layer`."""
    attention, mlp = block.self_attn, block.mlp
    return [
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    ]


@dataclass
class PackedModel:
    """All matrices of a model without its adapters: four of every layer, then the output's."""

    precision: Precision
    sums: list[int]  # of the weights that they were made of
    matrices: list[Packed]


# Packing takes ten times as long as finding out that nothing has changed since the last text.
_known: weakref.WeakKeyDictionary[Transformer, PackedModel] = weakref.WeakKeyDictionary()


def packed(model: Transformer, precision: Precision) -> PackedModel:
    """Return the model's matrices; those of the last call if the weights are the same.

    That they are is told by their bits, summed up: torch's count of changes does not count those of fused optimizers.
    """
    parts = [layers for block in blocks_of(model) for layers in products_of(block)]
    tensors = [layer.weight.detach() for layers in parts for layer in layers] + [model.output_weight.detach()]
    sums = [int(tensor.view(torch.int64).sum()) for tensor in tensors]
    known = _known.get(model)
    if known is not None and (known.precision, known.sums) == (precision, sums):
        return known
    matrices = [pack(torch.cat([layer.weight.detach() for layer in layers]), precision) for layers in parts]
    matrices.append(pack(tensors[-1], precision))
    found = _known[model] = PackedModel(precision, sums, matrices)
    return found


def branches_of(layers: Sequence[Any], experts: int) -> list[tuple[Packed, Packed] | None] | None:
    """Return what each expert's branches add to the product of some linear layers: (down, up) or None; None: nothing.

    The down matrices stand one below the other, the ups in a block diagonal.
    """
    if all(layer.adapter is None for layer in layers):
        return None
    found: list[tuple[Packed, Packed] | None] = []
    for expert in range(experts):
        parts = [_branch(layer, expert) for layer in layers]
        down, up = torch.cat([part[0] for part in parts]), torch.block_diag(*(part[1] for part in parts))
        down = F.pad(down, (0, 0, 0, -len(down) % PANEL))
        up = F.pad(up, (0, len(down) - up.shape[1]))
        found.append((pack(down), pack(up)) if up.any() else None)
    return found


def _branch(layer: Any, expert: int) -> tuple[Tensor, Tensor]:
    """Return what an expert adds to a layer as (rank, inputs) and (outputs, rank), its scale in the second."""
    branch = layer.adapter
    if branch is None:
        outputs, inputs = layer.weight.shape
        return layer.weight.new_zeros(1, inputs), layer.weight.new_zeros(outputs, 1)
    if hasattr(branch, "lora_A"):
        return branch.lora_A.detach(), branch.lora_B.detach() * branch.scale
    return branch.down[expert].T, branch.up[expert].T
