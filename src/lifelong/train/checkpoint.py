"""Checkpoints: directories from which a run goes on bit for bit. Safetensors and JSON, no pickle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, check_manifest, read_json, write_json
from lifelong.model.weights import save_tensors
from lifelong.train.shared import SharedModel, whole_state

_OPTIMIZER, _TRAINER = "optimizer.safetensors", "trainer.json"


def save_checkpoint(
    folder: Path,
    step: int,
    model: Any,
    optimizers: list[torch.optim.Optimizer],
    write_model: Any,
    facts: dict[str, Any],
    shared: SharedModel | None = None,
) -> Path:
    """Write ``folder/step-NNNNNNNN``: what ``write_model(directory)`` writes, optimizer state, random state and facts.

    ``shared`` is the model where several processes train it: its state is that of one process.

    Returns:
        the checkpoint's path.

    Raises:
        LifelongError: the disk refused; older checkpoints are untouched.
    """
    path = folder / f"step-{step:08d}"
    with atomic_directory(path, "checkpoint") as place:
        write_model(place)
        state = shared.state(optimizers) if shared is not None else whole_state(model, optimizers)
        state["random|cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            state["random|cuda"] = torch.cuda.get_rng_state()
        save_tensors(state, place / _OPTIMIZER)
        write_json(place / _TRAINER, {"step": step, **facts})
    return path


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint whose manifest holds, and a line for each newer one that was passed over."""
    passed: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        problem = check_manifest(path)
        if problem is None:
            return path, passed
        passed.append(f"{path.name} is damaged ({problem}); going back to the one before")
    return None, passed


def last_good(folder: Path) -> tuple[Path, int] | None:
    """Return the newest whole checkpoint that a run may go back to, and its step.

    It is one that was due (not written because somebody interrupted the run, so that an interruption changes nothing
    of what comes later), after a good step.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        if check_manifest(path) is None:
            facts = read_json(path / _TRAINER)
            if facts["due"] and not facts["plan"]["health"]["bad"]:
                return path, facts["step"]
    return None


def restore(
    path: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    shared: SharedModel | None = None,
    *,
    random: bool = True,
) -> dict[str, Any]:
    """Put optimizer state back, and random state unless ``random`` is False.

    Where several processes train the model, ``shared``, all get it, and the weights of ``model`` with it.

    Returns:
        the recorded facts, ``step`` among them.

    Raises:
        LifelongError: the checkpoint's optimizer state is for other weights.
    """
    state = load_file(path / _OPTIMIZER)
    cpu, cuda = state.pop("random|cpu"), state.pop("random|cuda", None)
    if random:
        torch.set_rng_state(cpu)
        if cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(cuda)
    facts: dict[str, Any] = read_json(path / _TRAINER)
    if shared is not None:
        shared.load(optimizers, state)
        return facts
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        optimizer.state.clear()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                mine = f"{names[id(parameter)]}|"
                for key in [key for key in state if key.startswith(mine)]:
                    # The count of steps, too: fused AdamW wants it where the weights are.
                    optimizer.state[parameter][key.removeprefix(mine)] = state.pop(key).to(parameter.device)
    if state:
        raise LifelongError(f"optimizer state for unknown weights: {sorted(state)[0]}", where=str(path))
    return facts


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` whole checkpoints, and the one that a run would go back to."""
    whole = [path for path in sorted(folder.glob("step-*"), reverse=True) if check_manifest(path) is None]
    good = last_good(folder)
    for path in whole[max(1, keep) :]:
        if good is None or path != good[0]:
            shutil.rmtree(path)
