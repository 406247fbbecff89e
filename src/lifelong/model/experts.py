"""The base model and its adapters side by side: the experts that answer together when none is named.

Each expert is the base with one adapter, and the untouched base is one of them. `use_expert` lets one compute alone;
under `all_experts` they compute at once, in one batch, until `keep_experts` lets only some of them go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lifelong.errors import LifelongError
from lifelong.model.adapters import (
    WEIGHTS,
    LowRank,
    adapted_layers,
    attach_adapter,
    detach_adapter,
    load_adapter_state,
    read_adapter_config,
)
from lifelong.model.base import LanguageModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Weights = TypeVar("Weights", Tensor, "npt.NDArray[np.float64]")

BASE, ROUTED = "base", "routed"
RESERVED = (BASE, ROUTED)  # names that no adapter may have


class Experts(nn.Module):
    """The branches of every adapter of a model, in the order in which they were learned; they are never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters: list[str] = []
        self.branches = nn.ModuleList()  # of each adapter: a list with one branch for each adapted layer

    @property
    def names(self) -> list[str]:
        """The experts' names, the base first."""
        return [BASE, *self.adapters]

    def of_layer(self, number: int) -> list[LowRank | None]:
        """Return every expert's branch of one layer; None of the base."""
        found: list[LowRank | None] = [None]
        for branches in self.branches:
            assert isinstance(branches, nn.ModuleList)
            branch = branches[number]
            assert isinstance(branch, LowRank)
            found.append(branch)
        return found

    def branch(self, name: str) -> nn.ModuleList | None:
        """Return the branches of an expert; None of the base."""
        if name == BASE:
            return None
        found = self.branches[self.adapters.index(name)]
        assert isinstance(found, nn.ModuleList)
        return found


class _Bank(nn.Module):
    """The branches of one layer, of all experts at once. Smaller ranks are filled up with zeros, which add nothing."""

    def __init__(self, branches: list[LowRank | None]) -> None:
        super().__init__()
        some = [branch for branch in branches if branch is not None]
        rank = max(branch.lora_A.shape[0] for branch in some)
        self.down = some[0].lora_A.new_zeros(len(branches), some[0].lora_A.shape[1], rank)
        self.up = some[0].lora_B.new_zeros(len(branches), rank, some[0].lora_B.shape[0])
        for number, branch in enumerate(branches):
            if branch is not None:
                mine = branch.lora_A.shape[0]
                self.down[number, :, :mine] = branch.lora_A.detach().T
                self.up[number, :mine] = branch.lora_B.detach().T * branch.scale

    def forward(self, x: Tensor) -> Tensor:
        """Return each expert's s·B·A·x for x (experts x batch, time, inputs), the rows of an expert side by side."""
        rows = x.reshape(len(self.down), -1, x.shape[-1])
        return torch.bmm(torch.bmm(rows, self.down), self.up).view(*x.shape[:-1], -1)


def add_expert(model: LanguageModel, name: str) -> None:
    """Take the attached adapter off, and put it beside the model's other experts under ``name``."""
    if model.experts is None:
        model.experts = Experts()
    assert isinstance(model.experts, Experts)
    branches = nn.ModuleList()
    for _, layer in adapted_layers(model):
        assert isinstance(layer.adapter, LowRank)
        branches.append(layer.adapter.requires_grad_(False))
        layer.adapter = None
    model.experts.adapters.append(name)
    model.experts.branches.append(branches)


def load_experts(model: LanguageModel, places: Mapping[str, Path]) -> None:
    """Put the adapters saved in ``places`` (name → PEFT directory) beside the model, and freeze nothing.

    Raises:
        LifelongError: files are missing, or an adapter is for another model.
    """
    for name, place in places.items():
        attach_adapter(model, read_adapter_config(place))
        load_adapter_state(model, load_file(place / WEIGHTS), where=str(place))
        add_expert(model, name)
    detach_adapter(model)


def use_expert(model: LanguageModel, name: str) -> None:
    """Let one expert compute alone: an adapter, or the base."""
    assert isinstance(model.experts, Experts)
    branches = model.experts.branch(name)
    for number, (_, layer) in enumerate(adapted_layers(model)):
        layer.adapter = None if branches is None else branches[number]


@contextlib.contextmanager
def all_experts(model: LanguageModel) -> Iterator[int]:
    """Let all experts compute at once, on rows repeated for each; yields how many there are.

    Inputs are (experts x batch, time), the rows of an expert side by side, in the order of `Experts.names`.
    """
    experts = model.experts
    assert isinstance(experts, Experts)
    count = len(experts.names)
    keep_experts(model, range(count))
    try:
        yield count
    finally:
        use_expert(model, BASE)


def keep_experts(model: LanguageModel, numbers: Sequence[int]) -> None:
    """Let only some experts compute at once, by their numbers in `Experts.names`; see `all_experts`, which ends it."""
    assert isinstance(model.experts, Experts)
    for number, (_, layer) in enumerate(list(adapted_layers(model))):
        branches = model.experts.of_layer(number)
        kept = [branches[index] for index in numbers]
        layer.adapter = _Bank(kept) if len(kept) > 1 else kept[0]


def check_fixed_share(share: float) -> None:
    """Raise LifelongError where a fixed share is not at least 0 and below 1."""
    if not 0 <= share < 1:
        raise LifelongError(f"a fixed share of {share:g} is not at least 0 and below 1", where="fixed_share")


def share_weights(weights: Weights, share: float) -> Weights:
    """Let every expert give a share of its weight to the others, in equal parts: for changes of topic inside a text.

    Fixed share (Herbster and Warmuth 1998, "Tracking the Best Expert", Machine Learning 32): after a token, the
    weight w of one of N experts becomes (1 - α)·w + α·(1 - w) / (N - 1).

    Args:
        weights: of the experts, that sum to 1 over the first axis: (experts, ...).
        share: α, at least 0 and below 1.
    """
    if len(weights) == 1:
        return weights
    return weights * (1 - share) + (1 - weights) * (share / (len(weights) - 1))
