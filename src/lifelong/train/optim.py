"""Optimizers: Muon for hidden matrices, AdamW for the rest; and the learning-rate schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lifelong.settings.train import OptimizerSettings, ScheduleSettings

# Coefficients of the quintic iteration in Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon/).
_A, _B, _C = 3.4445, -4.7750, 2.0315
# Embeddings that begin at random gain from a higher rate; those of a trained model only forget faster.
NEW_EMBEDDINGS = 8.0
_FIRST_MOMENTUM, _MOMENTUM_STEPS = 0.85, 300


def orthogonalise(matrices: Tensor, dtype: torch.dtype, steps: int = 5) -> Tensor:
    """Return matrices (n, rows, columns) with their singular values pushed to about 1, by Newton-Schulz iteration.

    All matrices of one shape go through together. ``dtype`` is the type of the products.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), with AdamW's step size (Liu et al. 2025, arXiv:2502.16982).

    Gives the updates of ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, but takes all matrices of one shape at
    once and lets the type of the products be chosen: torch's own always computes them in bf16, which a CPU without
    bf16 units emulates ten times slower than fp32.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.float32,
        ns_steps: int = 5,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "ns_steps": ns_steps}
        defaults["peak_momentum"] = momentum
        super().__init__(params, defaults)
        self.dtype = dtype
        # How several processes share the work: (matrices, rows of a whole one, what to compute) to the result.
        self.spread: Callable[[Tensor, int, Callable[[Tensor], Tensor]], Tensor] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                self._step_shape(group, shape, parameters)

    def _step_shape(self, group: dict[str, Any], shape: torch.Size, parameters: list[Tensor]) -> None:
        grads = [_here(parameter.grad) for parameter in parameters if parameter.grad is not None]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(_here(state["momentum_buffer"]))
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = torch.stack(list(torch._foreach_lerp(grads, buffers, group["momentum"])))

        def compute(matrices: Tensor) -> Tensor:
            return orthogonalise(matrices, self.dtype, group["ns_steps"])

        updates = compute(nesterov) if self.spread is None else self.spread(nesterov, shape[0], compute)
        rate, weights = group["lr"], [_here(parameter) for parameter in parameters]
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        torch._foreach_add_(weights, list(updates.unbind(0)), alpha=-rate * 0.2 * math.sqrt(max(shape)))


def _here(value: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds: all of it, unless it is in shards."""
    part: Tensor = value.to_local() if hasattr(value, "to_local") else value
    return part


def build_optimizers(
    model: nn.Module, settings: OptimizerSettings, *, bf16: bool = False, adapters: bool = False
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a model's trainable weights.

    Muon takes the matrices of the blocks; AdamW takes embeddings, norms and adapters. Weight decay acts on matrices.
    """
    # Whatever can carry an adapter is a matrix of a block: embeddings and the output layer cannot.
    blocks = {id(module.weight) for module in model.modules() if hasattr(module, "adapter")}
    hidden, matrices, vectors = [], [], []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif settings.name == "muon" and not adapters and id(parameter) in blocks:
            hidden.append(parameter)
        else:
            matrices.append(parameter)
    rate = learning_rate(settings)
    optimizers: list[torch.optim.Optimizer] = []
    if hidden:
        dtype = torch.bfloat16 if bf16 else torch.float32
        optimizers.append(Muon(hidden, rate, settings.momentum, settings.weight_decay, dtype, settings.ns_steps))
    scale = (settings.embedding_scale or 1.0) if hidden else 1.0
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay / scale, "scale": scale},
        {"params": vectors, "weight_decay": 0.0, "scale": scale},
    ]
    if any(group["params"] for group in groups):
        kept = [group for group in groups if group["params"]]
        optimizers.append(torch.optim.AdamW(kept, lr=rate, betas=settings.betas, eps=1e-8, fused=True))
    return optimizers


def set_rates(optimizer: torch.optim.Optimizer, rate: float, step: int) -> None:
    """Set an optimizer's learning rate, and Muon's momentum, for a step (0-based).

    Momentum averages over about 1 / (1 - momentum) steps; starting lower lets a short run move before it has taken 20
    (as the records of https://github.com/KellerJordan/modded-nanogpt do, 0.85 to 0.95 over 300 steps).
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
        if "peak_momentum" in group:
            start = min(_FIRST_MOMENTUM, group["peak_momentum"])
            group["momentum"] = start + (group["peak_momentum"] - start) * min(1.0, step / _MOMENTUM_STEPS)


def learning_rate(settings: OptimizerSettings) -> float:
    """Return the peak rate: the given one, or 3e-3 for Muon and 3e-4 for AdamW."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    return 3e-3 if settings.name == "muon" else 3e-4


def warmup_steps(settings: ScheduleSettings, total_steps: int) -> int:
    """Return the steps of warming up: as set or 2% of the run, and half of the run at most."""
    warmup = settings.warmup_steps if settings.warmup_steps is not None else max(1, round(0.02 * total_steps))
    return min(warmup, max(1, total_steps // 2))


def schedule(settings: ScheduleSettings, total_steps: int, peak: float) -> Callable[[int], float]:
    """Return the learning rate as a function of the step (0-based).

    ``wsd`` warms up, stays, and falls linearly over the last ``decay_fraction`` (Hu et al. 2024, arXiv:2404.06395).
    ``cosine`` (Loshchilov and Hutter 2017, arXiv:1608.03983) and ``linear`` fall from the end of the warm-up on, as
    ``wsd`` to ``min_lr``, which is the peak at most; ``constant`` stays.
    """
    warmup, floor = warmup_steps(settings, total_steps), min(settings.min_lr or 0.0, peak)

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        if settings.kind == "constant":
            return peak
        if settings.kind == "wsd":
            start = max(warmup, round(total_steps * (1 - settings.decay_fraction)))
        else:
            start = warmup
        progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
        share = 0.5 * (1 + math.cos(math.pi * progress)) if settings.kind == "cosine" else 1 - progress
        return floor + (peak - floor) * share

    return rate
