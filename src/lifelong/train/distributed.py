"""Several processes that train one model: what they say to each other. Alone, nothing here does anything.

Process 0 leads: it alone reads data, writes files and decides; the others do the steps that it calls for. Commands are
JSON, tensors are safetensors, both over a Gloo group of the processes' CPUs; only gradients, shards and Muon's matrices
go over the devices' own backend.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.tokens.loader import Batch

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.train.loop import Batches, Plan
    from lifelong.train.shared import SharedModel

_IGNORED = -100
_SEED_STEP = 1_000_003
_SEEDS = 1 << 63


class World:
    """The processes of one run.

    Attributes:
        rank: the number of this process; 0 leads.
        size: how many there are.
        seed: of what is random within a step, as dropout is.
        model: the model as they share it; None where this process is alone.
    """

    def __init__(self, rank: int = 0, size: int = 1, control: Any = None, seed: int = 0) -> None:
        self.rank, self.size, self.seed = rank, size, seed
        self.control = control
        self.model: SharedModel | None = None
        self.told: dict[str, Any] = {}

    def tell(self, do: str, **facts: Any) -> None:
        """Send a command to the processes that follow."""
        self._broadcast(json.dumps({"do": do, **facts}).encode())

    def hear(self) -> dict[str, Any]:
        """Wait for the next command of process 0."""
        self.told = json.loads(self._broadcast(None))
        return self.told

    def agree(self, decision: Any) -> Any:
        """Return process 0's decision (a plain value), whatever this one's is."""
        if self.size == 1:
            return decision
        return json.loads(self._broadcast(json.dumps(decision).encode() if self.rank == 0 else None))

    def sum(self, value: float) -> float:
        """Return the sum over all processes, in double precision."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        return total.item()

    def mean(self, value: float) -> float:
        """Return the mean over all processes, in double precision."""
        return self.sum(value) / self.size

    def loss(self, plan: Plan, model: LanguageModel, batch: Batch) -> Tensor:
        """Return the summed loss of this process's batch, times the processes: gradients are averaged over them."""
        if self.model is None:
            return plan.objective(model, batch)
        return self.model.loss(batch) * self.size

    def sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return the context of one pass of a step; gradients are brought together in the last one only."""
        return contextlib.nullcontext() if self.model is None else self.model.sync(last)

    def check_retry(self) -> None:
        """Raise LifelongError where a pass that failed cannot be tried again: others have taken part in it."""
        if self.size > 1:
            raise LifelongError(
                f"process {self.rank} of {self.size} has too little memory for its rows of a batch",
                fix="Use a smaller --batch-size with more --gradient-accumulation-steps, and `lifelong train` again.",
            )

    def refresh(self) -> None:
        """Bring the shards' weights together in process 0's own model, where they have moved since the last time."""
        if self.model is not None:
            self.model.refresh()

    def compile(self, model: LanguageModel, choice: str, run_seconds: float) -> str:
        """Compile the blocks of a model, in all processes, where it pays; returns the reason for the decision."""
        from lifelong.train.planning import compile_blocks

        if self.model is None:
            return compile_blocks(model, choice, run_seconds)
        reason = compile_blocks(self.model.trained, choice, run_seconds)
        if reason.startswith("on"):
            self.tell("compile")
        return reason

    def batches(self, loader: Batches, plan: Plan, step: int, rate: float) -> list[Batch]:
        """Return the batches of a step; of several processes each gets its rows of them all.

        Together these are the rows that one process would take, in the same order. Every process gets batches of the
        same number of rows, no more than the loader's have; where the rows do not come out even, the last are filled
        up with rows that are not trained on.
        """
        packed: list[bytes] = []
        if self.rank == 0:
            whole = [loader.batch(step * plan.accumulate + number) for number in range(plan.accumulate)]
            if self.size == 1:
                return whole
            parts, rows = _split(whole, self.size)
            packed = [_pack(part) for part in parts]
            scale = None if plan.scaler is None else plan.scaler.scale
            self.told = {"rows": rows, "bytes": len(packed[0])}
            self.tell("step", step=step, rate=rate, scale=scale, split=plan.rows, **self.told)
        assert self.model is not None
        self.model.moved = True
        # A function of the place alone: nothing random is left for a checkpoint to carry, whatever their number.
        torch.manual_seed(seed_of(self.seed, step, self.rank))
        part = _unpack(self._scatter(packed, self.told["bytes"]))
        rows = self.told["rows"]
        return [_rows(part, slice(start, start + rows)) for start in range(0, len(next(iter(part.values()))), rows)]

    def _broadcast(self, data: bytes | None) -> bytes:
        import torch.distributed as dist

        size = torch.tensor(len(data) if data is not None else 0)
        dist.broadcast(size, src=0, group=self.control)
        message = torch.empty(int(size), dtype=torch.uint8)
        if data is not None:
            message.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(message, src=0, group=self.control)
        return message.numpy().tobytes()

    def _scatter(self, packed: list[bytes], size: int) -> bytes:
        import torch.distributed as dist

        mine = torch.empty(size, dtype=torch.uint8)
        parts = [torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in packed]
        dist.scatter(mine, parts or None, src=0, group=self.control)
        return mine.numpy().tobytes()


ALONE = World()


def seed_of(seed: int, step: int, rank: int) -> int:
    """Return the seed of what is random in a process's part of a step; within what torch takes, whatever the seed."""
    return ((seed * _SEED_STEP + step) * _SEED_STEP + rank) % _SEEDS


def whole_norm(norm: Tensor) -> float:
    """Return a norm as a number; that of shards is brought together first."""
    full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return float(full)


def _split(batches: list[Batch], size: int) -> tuple[list[dict[str, Tensor]], int]:
    """Return the rows of each process, all filled up to one number, and how many go through the model at once."""
    columns = {
        field.name: [getattr(batch, field.name) for batch in batches] for field in dataclasses.fields(batches[0])
    }
    whole: dict[str, Tensor] = {}
    for name, values in columns.items():
        shapes = [value for value in values if value is not None]
        if shapes:  # rows without segments, beside rows with them, are of one segment
            filled = [torch.zeros_like(b.input_ids) if v is None else v for b, v in zip(batches, values, strict=True)]
            whole[name] = torch.cat(filled)
    rows, at_once = len(whole["labels"]), len(batches[0].labels)
    assert rows >= size  # `team` has seen to it
    share = -(-rows // size)
    passes = -(-share // at_once)
    at_once = -(-share // passes)
    parts = []
    for rank in range(size):
        own = {name: value[rank * rows // size : (rank + 1) * rows // size] for name, value in whole.items()}
        missing = passes * at_once - len(own["labels"])
        if missing:
            own = {
                name: torch.cat([value, value[-1:].expand(missing, *value.shape[1:])]) for name, value in own.items()
            }
            own["labels"][-missing:] = _IGNORED
        parts.append(own)
    return parts, at_once


def _pack(part: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in part.items()})


def _unpack(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(data)


def _rows(part: dict[str, Tensor], rows: slice) -> Batch:
    return Batch(**{name: value[rows] for name, value in part.items()})
