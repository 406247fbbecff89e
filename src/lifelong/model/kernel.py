"""The compiled part of reading on a CPU (`kernel.c`): built once on each machine with its C compiler, then loaded.

Without a compiler there is none, and `lifelong.model.decoding.StaticDecoder` reads instead, slower.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from lifelong import progress

_SOURCE = Path(__file__).with_name("kernel.c")
_FLAGS = ("-O3", "-march=native", "-fPIC")
# Compiling and linking: with the threads of torch's own OpenMP, which is loaded already (a second one would fight it
# for the cores); with the compiler's; without threads.
_WAYS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("-fopenmp",), ()),
    (("-fopenmp",), ("-fopenmp",)),
    ((), ()),
)
Pointer, Number = ctypes.c_void_p, ctypes.c_int64


class Matrix(ctypes.Structure):
    """See `kernel.c`, also for the rest."""

    _fields_ = [("weights", Pointer), ("outputs", Number), ("inputs", Number), ("bytes", Number)]


class Branch(ctypes.Structure):
    """What an expert adds to a product."""

    _fields_ = [("down", Matrix), ("up", Matrix)]


class Layer(ctypes.Structure):
    """The weights of a layer, and its keys and values."""

    _fields_ = [
        ("product", Matrix * 4),
        ("branches", ctypes.POINTER(Branch) * 4),
        *((name, Pointer) for name in ("before", "after", "query_norm", "key_norm", "keys", "values")),
    ]


class Model(ctypes.Structure):
    """A model and its tables."""

    _fields_ = [
        *(
            (name, Number)
            for name in ("layers", "experts", "width", "queries", "kv_heads", "head_dim", "length", "threads")
        ),
        ("eps", ctypes.c_float),
        ("scale", ctypes.c_float),
        *((name, Pointer) for name in ("embeddings", "cosines", "sines", "norm")),
        ("head", Matrix),
        ("layer", ctypes.POINTER(Layer)),
    ]


class Space(ctypes.Structure):
    """Working space."""

    _fields_ = [(name, Pointer) for name in ("x", "normed", "wide", "heads", "low", "scores")]


@cache
def load_kernel() -> ctypes.CDLL | None:
    """Return the compiled functions; None where there is no C compiler that makes them.

    They are kept in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`) under a name that says what they were
    made of and for which processor. The compiler is `$CC`, or else `cc`, `gcc` or `clang`.
    """
    import torch

    names = [os.environ["CC"]] if "CC" in os.environ else ["cc", "gcc", "clang"]
    compiler = next((found for name in names if (found := shutil.which(name))), None)
    if compiler is None or os.name != "posix":
        return None
    facts = "\0".join([_SOURCE.read_text(encoding="utf-8"), compiler, torch.__version__, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lifelong"
    place = folder / f"kernel-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.so"
    if place.is_file():
        with contextlib.suppress(OSError):  # a damaged one is made again
            return _open(place)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        progress.note("note: compiling what reads tokens on this processor (once, a few seconds)")
        return _compile(compiler, place)
    except OSError as error:
        progress.note(f"note: reading goes on with slower means: {error}")
        return None


def release_threads() -> None:
    """Let the threads go that helped this one with its products, before another thread takes the work over.

    Each thread that computes has helpers of its own. With more of them than cores GNU's OpenMP lets those that wait
    sleep rather than spin, also where the first ones are never used again, and a step takes twice as long.
    """
    # Where torch brings no OpenMP of this kind there is no such function, and no need of it.
    release = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None) if os.name == "posix" else None
    if release is not None:
        release(1)  # omp_pause_soft: all can be used again


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, place: Path) -> ctypes.CDLL:
    """Compile, and keep what can be loaded; raises OSError where nothing can."""
    said = ""
    with tempfile.TemporaryDirectory(dir=place.parent) as work:
        for number, (compiling, linking) in enumerate(_WAYS):
            part, whole = Path(work) / f"{number}.o", Path(work) / f"{number}.so"
            for command in (
                [compiler, *_FLAGS, *compiling, "-c", str(_SOURCE), "-o", str(part)],
                [compiler, "-shared", *linking, str(part), "-o", str(whole)],
            ):
                ran = subprocess.run(command, capture_output=True, text=True, errors="replace")
                if ran.returncode:
                    said = ran.stderr.strip().splitlines()[0] if ran.stderr.strip() else f"{compiler} failed"
                    break
            else:
                try:
                    found = _open(whole)
                except OSError as error:
                    said = str(error)
                    continue
                whole.replace(place)
                return found
    raise OSError(said)


def _open(place: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(place))
    library.read_tokens.restype = None
    library.read_tokens.argtypes = [
        ctypes.POINTER(Model), ctypes.POINTER(Space), Number, Pointer, Pointer, Pointer, Number, Pointer, Pointer,
    ]  # fmt: skip
    return library
