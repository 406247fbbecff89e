"""What this machine can do: device, precision, compiler, memory. Measured once, then recorded with the run."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    import torch

_SIZE = (1024, 512, 512)  # rows, inner, columns of a product that is timed


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
        said = str(error).splitlines()[0]
        if "doesn't exist for this backend" in said:  # of its own accord torch goes on for a thousand characters
            said = "this machine, or this build of torch, has none"
        raise LifelongError(
            f"device '{name}' is not available: {said}", fix="Use --device cpu, or leave it out."
        ) from None
    return device


def matmul_flops(device: torch.device, dtype: torch.dtype, size: tuple[int, int, int] = _SIZE) -> float:
    """Return floating-point operations per second of a matrix product of this dtype, best of eight runs."""
    product = _product(device, dtype, size)
    rows, inner, columns = size
    return 2.0 * rows * inner * columns / min(product() for _ in range(8))


def _product(device: torch.device, dtype: torch.dtype, size: tuple[int, int, int]) -> Callable[[], float]:
    """Return what computes a product of this size and returns the seconds that it took.

    Its numbers are not drawn from the seeded generator: what a model draws does not depend on what was timed.
    """
    import torch

    rows, inner, columns = size
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(rows, inner, device=device, generator=generator).to(dtype)
    b = torch.randn(columns, inner, device=device, generator=generator).to(dtype)

    def run() -> float:
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return run


def pick_precision(device: torch.device, name: str = "auto") -> str:
    """Return ``"bf16"`` or ``"fp32"``: the compute type of matrix products; master weights are always fp32.

    ``auto`` measures on a CPU: without AVX512-BF16 or AMX bf16 is emulated, ten times slower than fp32, and with
    AVX512-BF16 alone it may still be half as fast.
    """
    import torch

    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _bf16_pays() else "fp32"


@functools.cache
def _bf16_pays() -> bool:
    """Return whether bf16 products are faster than fp32's on this CPU.

    Other work here slows either down now and then, and equal seeds must give equal models: so they are timed in turn,
    and bf16 has to win nearly every time, by a fifth.
    """
    import torch

    cpu = torch.device("cpu")
    fp32, bf16 = (_product(cpu, dtype, _SIZE) for dtype in (torch.float32, torch.bfloat16))
    fp32(), bf16()  # the first of each is slow
    lost = 0
    for _ in range(16):
        lost += fp32() < 1.2 * bf16()
        if lost > 4:
            return False
    return True


def has_compiler() -> bool:
    """Whether ``torch.compile`` can work on this CPU: it needs a C++ compiler on the path."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
