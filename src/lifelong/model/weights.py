"""Files of weights: safetensors, or the ``pytorch_model.bin`` of a model made elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, TORCH_WEIGHTS = "model.safetensors", "pytorch_model.bin"
# Tables that old Llama files carry among the weights; they are computed from the configuration.
_COMPUTED = ".rotary_emb.inv_freq"


@dataclass(frozen=True)
class Weights:
    """An open file of weights: its tensors' names, and how to get at one."""

    where: str
    names: set[str]
    shape: Callable[[str], tuple[int, ...]]
    tensor: Callable[[str], Tensor]


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk refused, as other writes say it; the library has an error of its own for it.
    """
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    if metadata and len(metadata) > 1:
        _order_header(path)


def _order_header(path: Path) -> None:
    """Sort the metadata in a file's header, which the library writes in any order: equal tensors give equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))


@contextlib.contextmanager
def open_weights(place: Path) -> Iterator[Weights]:
    """Open the weights of a model directory: `model.safetensors`, or else `pytorch_model.bin`.

    Of the latter only tensors are read (``weights_only``): a file that holds anything else, such as code to run, is
    refused.

    Raises:
        LifelongError: there is no such file, or it cannot be read.
    """
    path = place / WEIGHTS
    if not path.is_file() and (place / TORCH_WEIGHTS).is_file():
        yield _open_torch(place / TORCH_WEIGHTS)
        return
    try:
        with safe_open(path, framework="pt") as file:
            names = {name for name in file.keys() if not name.endswith(_COMPUTED)}  # noqa: SIM118 (no mapping)
            yield Weights(str(path), names, lambda name: tuple(file.get_slice(name).get_shape()), file.get_tensor)
    except FileNotFoundError:
        raise LifelongError("file not found", where=str(path)) from None
    except SafetensorError as error:
        raise LifelongError(f"the weights cannot be read: {error}", where=str(path)) from None


def _open_torch(path: Path) -> Weights:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are layers below
        reason = str(error).partition("\n")[0]
        raise LifelongError(
            f"the weights cannot be read as plain tensors: {reason}",
            where=str(path),
            fix=f"Get the model as {WEIGHTS}: files of code are never run.",
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LifelongError("not a file of weights: it holds other things than named tensors", where=str(path))
    tensors = {name: value for name, value in state.items() if not name.endswith(_COMPUTED)}
    return Weights(str(path), set(tensors), lambda name: tuple(tensors[name].shape), lambda name: tensors[name])
