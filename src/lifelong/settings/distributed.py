"""Settings of a run by several processes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lifelong.settings.base import Settings


class DistributedSettings(Settings):
    """How many processes train together, and how they share the model."""

    nproc: int | None = Field(
        default=None,
        ge=1,
        description="Processes that train together, each on a part of every batch (default: 1, or one per GPU where "
        "distributed.enabled is set).",
    )
    enabled: bool = Field(default=False, description="Use every GPU, with a process each.")
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="ddp: every process holds the whole model; fsdp: weights, gradients and optimizer state are "
        "shared out among them.",
    )
    backend: Literal["auto", "nccl", "gloo"] = Field(
        default="auto", description="How processes talk to each other (default: nccl between GPUs, else gloo)."
    )
    gpu_ids: tuple[int, ...] = Field(default=(), description="The GPUs to use (default: all, from 0 on).")
