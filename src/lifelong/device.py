"""What this machine can do: device, precision, compiler, memory. Measured once, then recorded with the run."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    import torch


def pick_device(name: str | None = None) -> torch.device:
    """Return the device called ``name``, or the best one here: CUDA, then MPS, then CPU.

    Raises:
        LifelongError: the named device does not exist here.
    """
    import torch

    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(str(name))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LifelongError(
            f"device '{name}' is not available: {str(error).splitlines()[0]}", fix="Use --device cpu, or leave it out."
        ) from None
    return device


def matmul_flops(device: torch.device, dtype: torch.dtype, size: tuple[int, int, int] = (1024, 512, 512)) -> float:
    """Return floating-point operations per second of a matrix product of this dtype, best of eight runs."""
    import torch

    rows, inner, columns = size
    a = torch.randn(rows, inner, device=device).to(dtype)
    b = torch.randn(columns, inner, device=device).to(dtype)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2.0 * rows * inner * columns / best


def pick_precision(device: torch.device, name: str = "auto") -> str:
    """Return ``"bf16"`` or ``"fp32"``: the compute type of matrix products; master weights are always fp32.

    ``auto`` measures: a CPU without AVX512-BF16 or AMX computes bf16 by emulation, ten times slower than fp32.
    """
    import torch

    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type != "cpu":
        return "fp32"
    faster = matmul_flops(device, torch.bfloat16) > 1.2 * matmul_flops(device, torch.float32)
    return "bf16" if faster else "fp32"


def has_compiler() -> bool:
    """Whether ``torch.compile`` can work on this CPU: it needs a C++ compiler on the path."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
