"""The weights that a lesson moves, and steps back from where it took them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.model.adapters import WEIGHTS as ADAPTER_WEIGHTS
from lifelong.model.adapters import (
    AdapterConfig,
    attach_adapter,
    load_adapter_state,
    read_adapter_config,
    rescale_adapter,
)
from lifelong.model.base import LanguageModel
from lifelong.model.directory import adapter_path
from lifelong.model.experts import RESERVED
from lifelong.settings.learn import LearnSettings


@dataclass
class Moving:
    """What moves: an adapter, or all weights; and how far the step that was taken is to count."""

    name: str  # of the adapter, or of the domain
    adapter: AdapterConfig | None
    scale: float = 1.0
    _start: dict[str, Tensor] = field(default_factory=dict)
    _end: dict[str, Tensor] = field(default_factory=dict)

    def parameters(self, model: LanguageModel) -> int:
        """Return the weights of the adapter; 0 where all weights move."""
        return sum(p.numel() for p in model.parameters() if p.requires_grad) if self.adapter else 0

    def begin(self, model: LanguageModel) -> None:
        """Remember where all weights were; a new adapter is nothing at the start."""
        if self.adapter is None:
            self._start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def put_back(self, model: LanguageModel) -> None:
        """Put all weights where they began, to the bit."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self._start[name])

    def step_back(self, model: LanguageModel, scale: float) -> None:
        """Put the weights at a share of the way that the lesson took them.

        At 0 all weights are where they began. An adapter is scaled, so at 0 it does nothing at all.
        """
        self.scale = scale
        if self.adapter is not None:
            rescale_adapter(model, self.adapter.scale * scale)
            return
        if not self._end:
            self._end = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.lerp(self._start[name], self._end[name], scale))

    @property
    def saved(self) -> AdapterConfig:
        """The adapter's settings as they are to be kept, its scale among them."""
        assert self.adapter is not None
        return replace(self.adapter, alpha=self.adapter.alpha * self.scale)


def check_name(state: dict[str, Any], settings: LearnSettings) -> None:
    """Raise LifelongError where the adapter's name belongs to another domain or is reserved."""
    wanted = settings.adapter_name or settings.domain
    if wanted in RESERVED:
        raise LifelongError(
            f"'{wanted}' cannot be an adapter's name: it stands for " + " or ".join(RESERVED),
            fix="Choose another --adapter-name.",
        )
    taken = {item["name"]: item["domain"] for item in state.get("adapters", [])}
    if taken.get(wanted, settings.domain) != settings.domain:
        raise LifelongError(
            f"adapter '{wanted}' is of the domain '{taken[wanted]}'", fix="Choose another --adapter-name."
        )


def prepare_weights(
    model: LanguageModel, mode: str, settings: LearnSettings, root: Path, state: dict[str, Any], base_fingerprint: str
) -> Moving:
    """Attach a new adapter, or let all weights move. A domain taught again goes on from its last adapter.

    Args:
        model: whose weights are to move.
        mode: ``adapter`` or ``full``.
        settings: of the lesson.
        root: the model directory.
        state: of it.
        base_fingerprint: of the model's weights.

    Raises:
        LifelongError: the rank is larger than a layer.
    """
    if mode == "full":
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return Moving(settings.domain, None)
    wanted = settings.adapter_name or settings.domain
    known: list[dict[str, Any]] = state.get("adapters", [])
    taken = {item["name"] for item in known}
    name, version = wanted, 1
    while name in taken:
        version += 1
        name = f"{wanted}-{version}"
    config = AdapterConfig(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, base_fingerprint)
    attach_adapter(model, config)
    earlier = [item["name"] for item in known if item["domain"] == settings.domain]
    if earlier:
        _go_on_from(adapter_path(root, earlier[-1]), model, config)
    return Moving(name, config)


def _go_on_from(place: Path, model: LanguageModel, config: AdapterConfig) -> None:
    before = read_adapter_config(place)
    if before.rank != config.rank:
        progress.note(
            f"note: the adapter '{place.name}' has rank {before.rank}, the new version {config.rank}: it starts afresh"
        )
        return
    loaded = load_file(place / ADAPTER_WEIGHTS)
    factor = before.scale / config.scale
    load_adapter_state(
        model,
        {name: tensor * factor if ".lora_B." in name else tensor for name, tensor in loaded.items()},
        where=str(place),
    )
    progress.note(f"The domain was taught before: a new version goes on from the adapter '{place.name}'.")
