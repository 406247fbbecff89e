"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), read and written in PEFT's files and key names.

An adapter adds ΔW = s·B·A to a linear layer's weight, with s = alpha / rank. B starts at zero, so a new adapter
changes nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from lifelong.errors import LifelongError
from lifelong.files import read_json, write_json
from lifelong.model.base import LanguageModel
from lifelong.model.weights import save_tensors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterConfig:
    """Rank, scale and dropout of an adapter, and the fingerprint of the base weights it belongs to."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    base_fingerprint: str = ""

    @property
    def scale(self) -> float:
        """The factor s = alpha / rank of ΔW = s·B·A."""
        return self.alpha / self.rank


def _dropout(x: Tensor, share: float) -> Tensor:
    """Dropout that draws four 16-bit numbers at once on a CPU, whose generator is serial.

    An adapter draws for the input of every layer: torch's own dropout takes a quarter of a lesson's time there. The
    share is rounded to 1/65536.
    """
    if x.device.type != "cpu" or x.numel() % 4:
        return F.dropout(x, share)
    drawn = torch.empty(x.numel() // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    border = round(share * 65536) - 32768
    kept = (drawn >= border).view(x.shape)
    return x * kept * (65536 / (65536 - round(share * 65536)))


class LowRank(nn.Module):
    """The low-rank branch of one linear layer: A (rank, inputs) and B (outputs, rank).

    Args:
        inputs: of the layer.
        outputs: of the layer.
        config: rank, scale and dropout.
        transposed: the layer's weight is (inputs, outputs), as GPT-2's are: PEFT's ``fan_in_fan_out``.
    """

    def __init__(self, inputs: int, outputs: int, config: AdapterConfig, *, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        self.lora_A = nn.Parameter(torch.empty(config.rank, inputs))
        self.lora_B = nn.Parameter(torch.zeros(outputs, config.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # PEFT's start
        self.scale, self.dropout = config.scale, config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return s·B·A·x for x (..., inputs)."""
        if self.training and self.dropout:
            x = _dropout(x, self.dropout)
        return F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale

    def delta(self) -> Tensor:
        """Return ΔW = s·B·A in the shape of the layer's weight: (outputs, inputs), or (inputs, outputs)."""
        change = self.lora_B @ self.lora_A * self.scale
        return change.T if self.transposed else change


class Adaptable(Protocol):
    """A linear layer that can carry an adapter: one of ours, or of transformers'."""

    weight: nn.Parameter
    adapter: nn.Module | None


def adapted_layers(model: LanguageModel) -> Iterator[tuple[str, Adaptable]]:
    """Yield the name and layer of every linear layer that can carry an adapter (all in the blocks, not the output)."""
    for name, module in model.named_modules():
        if hasattr(module, "adapter"):
            yield name, cast(Adaptable, module)


def _transposed(layer: Adaptable) -> bool:
    """Whether a layer's weight is (inputs, outputs): transformers' Conv1D, which no linear layer of torch's is."""
    return not isinstance(layer, nn.Linear)


def check_rank(model: LanguageModel, rank: int) -> None:
    """Raise LifelongError where a rank is larger than a layer."""
    layers = [(min(layer.weight.shape), name, tuple(layer.weight.shape)) for name, layer in adapted_layers(model)]
    for least, name, shape in sorted(layers)[:1]:  # the smallest says what fits all
        if rank > least:
            raise LifelongError(
                f"LoRA rank {rank} is larger than layer {name} ({shape[0]} x {shape[1]})",
                fix=f"Use --lora-rank {least} or less.",
            )


def attach_adapter(model: LanguageModel, config: AdapterConfig) -> None:
    """Give every linear layer a fresh adapter, and freeze everything else.

    Raises:
        LifelongError: the rank is larger than a layer.
    """
    check_rank(model, config.rank)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for _, layer in adapted_layers(model):
        transposed = _transposed(layer)
        outputs, inputs = reversed(layer.weight.shape) if transposed else layer.weight.shape
        layer.adapter = LowRank(inputs, outputs, config, transposed=transposed).to(layer.weight.device)


def detach_adapter(model: LanguageModel) -> None:
    """Take the adapter off: the base model, all weights trainable again."""
    for _, layer in adapted_layers(model):
        layer.adapter = None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("experts."))


@contextlib.contextmanager
def adapter_off(model: LanguageModel) -> Iterator[None]:
    """Take whatever adapter is attached off for a while: in the block the base alone computes."""
    attached = [(layer, layer.adapter) for _, layer in adapted_layers(model)]
    for layer, _ in attached:
        layer.adapter = None
    try:
        yield
    finally:
        for layer, adapter in attached:
            layer.adapter = adapter


def rescale_adapter(model: LanguageModel, scale: float) -> None:
    """Give the attached adapter another scale s of ΔW = s·B·A."""
    for _, layer in adapted_layers(model):
        assert isinstance(layer.adapter, LowRank)
        layer.adapter.scale = scale


def merge_adapter(model: LanguageModel) -> bool:
    """Fold the attached adapter into the weights and take it off; returns whether there was one."""
    found = False
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            if isinstance(layer.adapter, LowRank):
                layer.weight.add_(layer.adapter.delta())
                found = True
    if found:
        detach_adapter(model)
    return found


def adapter_state(model: LanguageModel) -> dict[str, Tensor]:
    """Return the attached adapter's tensors under PEFT's names."""
    state = {}
    for name, layer in adapted_layers(model):
        if isinstance(layer.adapter, LowRank):
            state[f"{_PREFIX}{name}.lora_A.weight"] = layer.adapter.lora_A.detach().cpu().contiguous()
            state[f"{_PREFIX}{name}.lora_B.weight"] = layer.adapter.lora_B.detach().cpu().contiguous()
    return state


def load_adapter_state(model: LanguageModel, state: dict[str, Tensor], *, where: str = "adapter") -> None:
    """Fill the attached adapter from PEFT-named tensors.

    Raises:
        LifelongError: a tensor is missing, left over, or of another shape.
    """
    left = dict(state)
    with torch.no_grad():
        for name, layer in adapted_layers(model):
            if not isinstance(layer.adapter, LowRank):
                raise ValueError("attach_adapter first")
            for key, parameter in (("lora_A", layer.adapter.lora_A), ("lora_B", layer.adapter.lora_B)):
                tensor = left.pop(f"{_PREFIX}{name}.{key}.weight", None)
                if tensor is None or tensor.shape != parameter.shape:
                    found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                    raise LifelongError(
                        f"{name}.{key} {found}, expected {tuple(parameter.shape)}: the adapter is for another model",
                        where=where,
                    )
                parameter.copy_(tensor)
    if left:
        raise LifelongError(f"tensors that this model has no place for: {', '.join(sorted(left)[:3])} …", where=where)


def save_adapter(model: LanguageModel, config: AdapterConfig, out: Path) -> None:
    """Write the attached adapter as `PeftModel.from_pretrained` reads it."""
    out.mkdir(parents=True, exist_ok=True)
    # PEFT warns about keys it does not know in its configuration, so the fingerprint travels with the weights.
    facts = {"format": "pt", "base_fingerprint": config.base_fingerprint}
    save_tensors(adapter_state(model), out / WEIGHTS, metadata=facts)
    targets = sorted({name.rsplit(".", 1)[-1] for name, _ in adapted_layers(model)})
    write_json(
        out / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": None,
            "r": config.rank,
            "lora_alpha": config.alpha,
            "lora_dropout": config.dropout,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": any(_transposed(layer) for _, layer in adapted_layers(model)),
            "inference_mode": True,
        },
    )


def read_adapter_config(path: Path) -> AdapterConfig:
    """Read rank, alpha, dropout and the base's fingerprint from a PEFT directory.

    Raises:
        LifelongError: a file or a key is missing.
    """
    raw = read_json(path / CONFIG)
    if not (path / WEIGHTS).is_file():
        raise LifelongError("file not found", where=str(path / WEIGHTS))
    try:
        with safe_open(path / WEIGHTS, framework="pt") as file:
            facts = file.metadata() or {}
    except SafetensorError as error:
        raise LifelongError(
            f"the adapter cannot be read: {error}",
            where=str(path / WEIGHTS),
            fix="Delete a model's own: the next command lays it there again; one made elsewhere has to be made anew.",
        ) from None
    try:
        return AdapterConfig(
            rank=int(raw["r"]),
            alpha=float(raw["lora_alpha"]),
            dropout=float(raw.get("lora_dropout", 0.0)),
            base_fingerprint=facts.get("base_fingerprint", ""),
        )
    except KeyError as error:
        raise LifelongError(f"key {error} is missing", where=str(path / CONFIG)) from None


def load_adapter(model: LanguageModel, path: Path) -> AdapterConfig:
    """Attach the adapter saved at ``path``; returns its settings.

    Raises:
        LifelongError: files are missing, or the adapter is for another model.
    """
    config = read_adapter_config(path)
    attach_adapter(model, config)
    load_adapter_state(model, load_file(path / WEIGHTS), where=str(path))
    return config
