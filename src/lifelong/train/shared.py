"""A model that several processes train: whole in each (DDP), or in shards (FSDP2); its state in and out.

Checkpoints are what one process writes. `torch.distributed.checkpoint` is not used: the description that it puts beside
the shards is in Python's own format, which runs code when it is read. Instead the shards are brought together in
process 0, one tensor at a time, and a run goes on from the same files under any number of processes. The cost is the
time of one process writing, and memory for one copy of weights (on process 0's device) and optimizer state (in its main
memory).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lifelong.train.distributed import World
from lifelong.train.optim import Muon

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.loader import Batch
    from lifelong.train.loop import Plan
    from lifelong.train.objectives import Objective


class _Loss(nn.Module):
    """The loss as a module's forward pass: where DDP and FSDP2 hook in."""

    objective: Objective

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.objective(self.model, batch)


class SharedModel:
    """One process's part in a model.

    Args:
        world: the processes.
        model: the model; process 0's weights are those of all from now on. In shards it is kept beside them in
            process 0, and `refresh` brings it up to date.
        strategy: ``ddp`` or ``fsdp``.
    """

    def __init__(self, world: World, model: LanguageModel, strategy: str) -> None:
        self._world, self._model = world, model
        self.sharded = strategy == "fsdp"
        self.moved = False
        device = next(model.parameters()).device
        # What is trained. DDP trains the model itself.
        self.trained = copy.deepcopy(model) if self.sharded and world.rank == 0 else model
        self._loss = _Loss(self.trained)
        if self.sharded:
            self._run: Any = _shard(self._loss, world.size, device)
        else:
            self._run = nn.parallel.DistributedDataParallel(self._loss, gradient_as_bucket_view=True)
        self.trained.train()

    def adopt(self, plan: Plan) -> None:
        """Let a plan's steps be taken by all processes."""
        self._loss.objective = plan.objective
        plan.world = self._world
        plan.trainable = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        for optimizer in plan.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.spread = _exchange if self.sharded else _share_out

    def loss(self, batch: Batch) -> Tensor:
        """Return the summed loss of a batch of this process."""
        loss: Tensor = self._run(batch)
        return loss

    def sync(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a pass; gradients are brought together in a step's last one only."""
        if self.sharded:
            self._run.set_requires_gradient_sync(last)
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext() if last else self._run.no_sync()
        return context

    def refresh(self) -> None:
        """Bring the shards together in process 0's own model; all processes take part."""
        if not self.sharded or not self.moved:
            return
        if self._world.rank == 0:
            self._world.tell("refresh")
        targets = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, parameter in self.trained.named_parameters():
                full = _full(parameter)
                if self._world.rank == 0:
                    targets[name].copy_(full)
        self.moved = False

    def state(self, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
        """Return the optimizers' whole state, on the CPU."""
        if self.sharded and self._world.rank == 0:
            self._world.tell("state")
        return whole_state(self.trained, optimizers, keep=self._world.rank == 0)

    def load(self, optimizers: list[torch.optim.Optimizer], state: dict[str, Tensor] | None = None) -> None:
        """Give the weights of process 0's own model, and optimizer state that it read, to all."""
        world = self._world
        if world.rank == 0:
            state = state or {}
            world.tell("load", state=_described(state))
        source = dict(self._model.named_parameters())
        parameters = dict(self.trained.named_parameters())
        for name, parameter in parameters.items():
            _put(
                parameter, self._from_leader(source[name] if world.rank == 0 else None, parameter.shape, torch.float32)
            )
        for optimizer in optimizers:
            optimizer.state.clear()
        owners = {id(p): o for o in optimizers for group in o.param_groups for p in group["params"]}
        for name, shape, kind in world.told["state"] if world.rank else _described(state or {}):
            full = self._from_leader(state[name] if state else None, torch.Size(shape), getattr(torch, kind))
            parameter = parameters[name.partition("|")[0]]
            value = full.to(parameter.device, copy=True)
            if full.ndim:
                value = torch.zeros_like(parameter, dtype=full.dtype)
                _put(value, full)
            owners[id(parameter)].state[parameter][name.partition("|")[2]] = value
        self.moved = False

    def _from_leader(self, value: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        import torch.distributed as dist

        full = torch.empty(shape, dtype=dtype) if value is None else value.detach().cpu().contiguous()
        dist.broadcast(full, src=0, group=self._world.control)
        return full


def _described(state: dict[str, Tensor]) -> list[Any]:
    return [[name, list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in state.items()]


def whole_state(model: nn.Module, optimizers: list[torch.optim.Optimizer], *, keep: bool = True) -> dict[str, Tensor]:
    """Return the optimizers' state on the CPU, named by weight and kind.

    Of shards, all processes ask for it at once; those that do not ``keep`` it help, and get nothing.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                full = _full(value)
                if keep:
                    found[f"{names[id(parameter)]}|{key}"] = full.detach().cpu().contiguous()
    return found


def _shard(loss: nn.Module, size: int, device: torch.device) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (size,))
    lists = [module for module in loss.modules() if isinstance(module, nn.ModuleList)]
    inner = {id(part) for module in lists for child in module for part in child.modules()}
    for module in lists:
        if id(module) not in inner:
            for block in module:
                fully_shard(block, mesh=mesh)
    fully_shard(loss, mesh=mesh)  # changes the module's class, in place
    return loss


def _full(value: Tensor) -> Tensor:
    full: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full


@torch.no_grad()
def _put(target: Tensor, full: Tensor) -> None:
    """Fill a tensor, or this process's shard of it (its rows, as `torch.chunk` cuts them), from the whole one."""
    if not hasattr(target, "to_local"):
        target.copy_(full)
        return
    import torch.distributed as dist

    mine, share = target.to_local(), -(-full.shape[0] // dist.get_world_size())
    start = dist.get_rank() * share
    mine.copy_(full[start : start + share])


def _share_out(matrices: Tensor, rows: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute matrices (n, rows, columns), alike in all processes: each computes a part and sends it round."""
    import torch.distributed as dist

    size, count = dist.get_world_size(), len(matrices)
    share = -(-count // size)
    filled = torch.cat([matrices, matrices.new_zeros(share * size - count, *matrices.shape[1:])])
    mine = compute(filled[dist.get_rank() * share :][:share]).contiguous()
    result = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(result, mine)
    return torch.cat(result)[:count]


def _exchange(shards: Tensor, rows: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute whole matrices of which every process holds some rows: (n, rows here, columns) in and out.

    Each process gets n / size whole matrices and sends their rows back, so that the work is shared out, too. On the
    way go twice the shards' bytes.
    """
    import torch.distributed as dist

    size, (count, here, columns) = dist.get_world_size(), shards.shape
    height, share = -(-rows // size), -(-count // size)
    filled = shards.new_zeros(size * share, height, columns)
    filled[:count, :here] = shards
    received = torch.empty_like(filled)
    dist.all_to_all_single(received, filled)
    whole = received.view(size, share, height, columns).transpose(0, 1).reshape(share, size * height, columns)
    done = torch.zeros_like(whole)
    done[:, :rows] = compute(whole[:, :rows].contiguous())
    filled.view(size, share, height, columns).copy_(done.view(share, size, height, columns).transpose(0, 1))
    dist.all_to_all_single(received, filled)
    return received[:count, :here]
