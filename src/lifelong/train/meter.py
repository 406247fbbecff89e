"""How well a run uses the machine: its memory, and how near it comes to what a matrix product alone can do."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lifelong.device import matmul_flops, peak_memory_bytes
from lifelong.train.job import Job

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_SIZES = {"cpu": (1024, 512, 512), "cuda": (8192, 8192, 8192)}  # large enough to be no faster when larger


def ceiling(job: Job) -> float:
    """Return the floating-point operations per second of a matrix product here, in the run's precision."""
    device = job.model.device
    return matmul_flops(device, _TYPES[job.precision], _SIZES.get(device.type, _SIZES["cpu"]))


@dataclass(frozen=True)
class Meter:
    """Reads memory and model FLOPs utilisation (MFU; Chowdhery et al. 2022, arXiv:2204.02311, appendix B)."""

    flops_per_token: float
    ceiling: float  # operations per second, measured when the run was begun
    device: torch.device

    @classmethod
    def of(cls, job: Job) -> Meter:
        """Make the meter of a run, with the ceiling that it recorded."""
        device = job.model.device
        per_token = job.model.config.flops_per_token(job.loader.sequence_length)
        return cls(per_token, job.run.facts["matmul_flops"], device)

    def read(self, tokens_per_second: float) -> dict[str, float]:
        """Return ``memory_bytes``, the peak so far (of the device; of the process on a CPU), and ``mfu`` (0 to 1)."""
        cuda = self.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(self.device) if cuda else peak_memory_bytes()
        return {"memory_bytes": memory, "mfu": tokens_per_second * self.flops_per_token / self.ceiling}
