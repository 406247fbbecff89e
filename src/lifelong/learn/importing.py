"""`lifelong import ADAPTER --into MODEL`: a LoRA adapter made by PEFT joins a model's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import read_json
from lifelong.learn.commit import stage_state
from lifelong.learn.recovery import recover
from lifelong.learn.session import check_weights
from lifelong.learn.weights import check_name
from lifelong.locks import writer_lock
from lifelong.model.adapters import (
    CONFIG,
    WEIGHTS,
    AdapterConfig,
    adapter_state,
    attach_adapter,
    load_adapter_state,
    read_adapter_config,
    save_adapter,
)
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, load_model, read_config
from lifelong.model.experts import BASE
from lifelong.model.store import HOME, ModelStore
from lifelong.settings.learn import LearnSettings

# What PEFT can do beside ΔW = s·B·A on linear layers of one rank; only with these values it does not.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "layer_replication": ([], None),
    "lora_bias": (False, None),
    "trainable_token_indices": ([], {}, None),
    "target_parameters": ([], None),
}


def is_adapter(path: Path) -> bool:
    """Whether a directory holds an adapter in PEFT's files, and no model."""
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def import_adapter(path: Path, model: Path, name: str | None = None) -> dict[str, Any]:
    """Add an adapter to a model's own, as a domain of its name of which there is no text; returns what was added.

    Layers that it leaves alone get a branch of zeros. A model that answers with all its adapters weighs it like the
    others; `lifelong rollback` takes it away again.

    Args:
        path: its directory: ``adapter_config.json`` and ``adapter_model.safetensors``.
        model: a model directory.
        name: of the adapter, and of its domain; the directory's by default.

    Raises:
        LifelongError: it is of another model, does something that has no place here, or its name is taken.
    """
    config = _read(path)
    root = find_model(model)
    read_config(root).require_causal("take an adapter")
    name = name or path.resolve().name
    with writer_lock(root / HOME):
        store = ModelStore.open(root)
        recover(store)
        network, _ = load_model(root, device="cpu", adapter=BASE)
        base = check_weights(network, store)
        if config.base_fingerprint not in ("", base):
            raise LifelongError(
                "the adapter was made for other weights than this model's",
                where=str(path),
                fix="Name the model that it was made for (--into).",
            )
        state = store.state()
        if name in state.get("domains", []):
            raise LifelongError(f"there is a domain '{name}' already", where=str(root), fix="Choose another --name.")
        check_name(state, LearnSettings.build({"domain": name}))
        left_alone = _attach(network, config, path)
        store.adopt()
        with store.staging() as staged:
            kept = AdapterConfig(config.rank, config.alpha, config.dropout, base)
            save_adapter(network, kept, staged / HOME / "adapters" / name)
            state.update(
                format=1,
                domains=[*state.get("domains", []), name],
                adapters=[*state.get("adapters", []), {"name": name, "domain": name, "session": None}],
                base_fingerprint=base,
            )
            if "matrix" in state:
                state["matrix"]["stale"] = f"measured before the adapter '{name}' was imported"
            stage_state(staged, root, state)
            event = {"event": "import", "from": "adapter", "domain": name, "source": str(path), "rank": config.rank}
            generation = store.commit(staged, event)
    if not config.base_fingerprint and (made_for := read_json(path / CONFIG).get("base_model_name_or_path")):
        progress.note(f"note: it says that it was made for '{made_for}'; nothing more tells whether that is this model")
    if left_alone:
        progress.note(f"note: {left_alone} of {len(adapter_state(network)) // 2} layers are not changed by it")
    return {"model": str(root), "adapter": name, "rank": config.rank, "generation": generation}


def _read(path: Path) -> AdapterConfig:
    """Return an adapter's settings as they are here."""
    if (path / "adapter_model.bin").is_file() and not (path / WEIGHTS).is_file():
        raise LifelongError(
            "the weights are an adapter_model.bin",
            where=str(path),
            fix=f"Save it as {WEIGHTS}: model.save_pretrained(DIRECTORY) of a current PEFT does.",
        )
    raw, found = read_json(path / CONFIG), read_adapter_config(path)
    for key, values in _PLAIN.items():
        if raw.get(key, values[0]) not in values:
            raise LifelongError(
                f"{key} = {raw[key]!r}: only plain LoRA of linear layers has a place here",
                where=str(path / CONFIG),
                fix="Merge it into its base instead (PEFT's merge_and_unload), and import that model.",
            )
    if raw.get("use_rslora"):  # s = alpha / √r (Kalajdzievski 2023, arXiv:2312.03732)
        return AdapterConfig(found.rank, found.alpha * math.sqrt(found.rank), found.dropout, found.base_fingerprint)
    return found


def _attach(network: LanguageModel, config: AdapterConfig, path: Path) -> int:
    """Fill a new adapter from the file; returns the number of layers that the file leaves alone."""
    attach_adapter(network, config)
    found, wanted = load_file(path / WEIGHTS), adapter_state(network)
    absent = wanted.keys() - found.keys()
    # A layer that has one of its two matrices is damaged: it is refused as missing.
    alone = {key for key in absent if _other(key) in absent}
    if len(alone) == len(wanted):
        raise LifelongError("none of its layers is a layer of this model", where=str(path / WEIGHTS))
    load_adapter_state(network, found | {key: torch.zeros_like(wanted[key]) for key in alone}, where=str(path))
    return len(alone) // 2


def _other(key: str) -> str:
    return key.replace(".lora_A.", ".lora_B.") if ".lora_A." in key else key.replace(".lora_B.", ".lora_A.")
