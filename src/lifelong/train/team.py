"""Bringing several processes together for one run: started from here, or all started by `torchrun`.

Process 0 is the one that reads, writes and decides; it is the whole program as it runs alone. The others only know the
model and its optimizers, and do what they are told (`follow`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lifelong.errors import LifelongError
from lifelong.model.directory import write_model_files
from lifelong.train.distributed import World
from lifelong.train.shared import SharedModel

if TYPE_CHECKING:
    from lifelong.settings.train import TrainSettings
    from lifelong.train.job import Job

# Those that follow wait while process 0 reads text or measures; that one has died shows by its closed connection.
PATIENCE = timedelta(days=7)
# The longest that any process takes for its part of one step, to be found hanging after.
_STEP = timedelta(minutes=30)
_START_SECONDS, _END_SECONDS = 300.0, 20.0
# What is in their common store.
JOB, FAILED, READY, LOADED = "lifelong/job", "lifelong/failed", "lifelong/ready", "lifelong/loaded"


def env_processes() -> int | None:
    """Return how many processes `torchrun` started; None where it did not start this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


def count_processes(settings: TrainSettings, device: torch.device) -> tuple[int, torch.device]:
    """Return how many processes are to train, and the device of the first.

    Raises:
        LifelongError: there are fewer GPUs, `torchrun` started another number, or the device cannot be shared out.
    """
    from lifelong import progress

    wanted = settings.distributed
    gpus = wanted.gpu_ids or tuple(range(torch.cuda.device_count() if device.type == "cuda" else 0))
    count = wanted.nproc or 1
    if wanted.nproc is None and wanted.enabled:
        count = len(gpus) if device.type == "cuda" else 1
        if device.type != "cuda":
            progress.note("note: there is no GPU to train on, so one process trains (--nproc asks for more)")
    started = env_processes()
    if started is not None:
        if wanted.nproc not in (None, started):
            raise LifelongError(f"torchrun started {started} processes, --nproc says {wanted.nproc}")
        count = started
    local = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    if count > 1 and device.type == "mps":
        raise LifelongError("several processes cannot share an MPS device", fix="Use --device cpu, or --nproc 1.")
    if device.type == "cuda" and local > len(gpus):
        raise LifelongError(f"{local} processes, and only {len(gpus)} GPUs", fix="Use a smaller --nproc.")
    if wanted.gpu_ids and device.type == "cuda":
        missing = [number for number in gpus if number >= torch.cuda.device_count()]
        if missing:
            raise LifelongError(f"there is no GPU {missing[0]}", where="distributed.gpu_ids")
    if count > 1 and device.type == "cpu" and wanted.backend == "nccl":
        progress.note("note: NCCL joins GPUs; these processes train on the CPU, and are joined by Gloo")
    if device.type == "cuda" and (count > 1 or wanted.gpu_ids):
        device = local_device(device, wanted.gpu_ids, 0)
    return count, device


def local_device(device: torch.device, gpu_ids: tuple[int, ...], local_rank: int) -> torch.device:
    """Return the device of a process, which becomes its current one."""
    if device.type != "cuda":
        return device
    device = torch.device("cuda", gpu_ids[local_rank] if gpu_ids else local_rank)
    torch.cuda.set_device(device)
    return device


def set_threads(threads: int | None, processes: int) -> None:
    """Set the CPU threads of this process: as asked for, or its share of the machine's."""
    if threads:
        torch.set_num_threads(threads)
    elif processes > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        torch.set_num_threads(max(1, torch.get_num_threads() // local))


@contextlib.contextmanager
def team(job: Job, processes: int) -> Iterator[None]:
    """Let ``processes`` train the job's model while the block runs; its ``world`` says how. One stays alone.

    Raises:
        LifelongError: a step has fewer rows than there are processes; or one of them failed, and the others are ended.
    """
    if processes == 1:
        yield
        return
    if (rows := job.settings.batch_size * job.settings.gradient_accumulation_steps) < processes:
        raise LifelongError(
            f"a step has {rows} rows, fewer than there are processes ({processes})",
            fix=f"Use a --batch-size of {processes} or more, or fewer processes (--nproc).",
        )
    import torch.distributed as dist

    settings = job.settings.distributed
    device = next(job.model.parameters()).device
    # The others build the model from its files, as any verb does: whatever its maker.
    start = (job.run.path / "cache" / "start").resolve()
    write_model_files(job.model, job.tokenizer, start)
    followers = _Followers(processes)
    try:
        backend = pick_backend(settings.backend, device)
        message = {
            "settings": job.settings.model_dump(mode="json"),
            "model": str(start),
            "precision": job.precision,
            "device": device.type,
            "backend": backend,
            "threads": torch.get_num_threads(),
        }
        followers.wait(READY)
        followers.store.set(JOB, json.dumps(message))
        followers.wait(LOADED)
        world = join(followers.store, backend, 0, processes, job.settings.seed)
        world.model = SharedModel(world, job.model, settings.strategy)
        shutil.rmtree(start)
        if world.model.sharded:
            world.model.load([])
        job.world = world
        yield
        world.tell("stop")
        followers.end()
    except RuntimeError as error:
        if (reason := followers.failure()) is None:
            raise
        raise LifelongError(
            reason,
            fix="All processes were ended. `lifelong resume` goes on from the last checkpoint, if there was one.",
        ) from error
    except LifelongError as error:
        if error.exit_code == 130:  # between two steps, where the others wait
            world.tell("stop")
            followers.end()
        raise
    finally:
        followers.kill()
        if dist.is_initialized():
            dist.destroy_process_group()


def pick_backend(name: str, device: torch.device) -> str:
    """Return how processes on a device exchange gradients: ``nccl`` or ``gloo``."""
    if device.type != "cuda":
        return "gloo"
    return "nccl" if name == "auto" else name


def join(store: Any, backend: str, rank: int, size: int, seed: int) -> World:
    """Meet the other processes, and return the world they are together."""
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    with _loopback():
        dist.init_process_group(backend, store=PrefixStore("team", store), rank=rank, world_size=size, timeout=_STEP)
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
    return World(rank, size, control, seed)


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Keep processes that all run on this machine off its network."""
    names = {name for _, name in socket.if_nameindex()} if hasattr(socket, "if_nameindex") else set()
    loop = next((name for name in ("lo", "lo0") if name in names), None)
    key = "GLOO_SOCKET_IFNAME"
    if loop is None or key in os.environ or os.environ.get("MASTER_ADDR", "127.0.0.1") != "127.0.0.1":
        yield
        return
    os.environ[key] = loop
    try:
        yield
    finally:
        del os.environ[key]


class _Followers:
    """The processes beside process 0: started here, unless `torchrun` did."""

    def __init__(self, size: int) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]
        from torch.distributed.rendezvous import rendezvous

        self._size = size
        self._started: list[subprocess.Popen[bytes]] = []
        if env_processes() is not None:
            self.store, _, _ = next(rendezvous("env://"))
            return
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_STEP)
        source = str(Path(__file__).parents[2])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        for rank in range(1, size):
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self.store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is here already; it is not theirs to open
            }
            # A session of its own: Ctrl-C in the terminal reaches process 0 alone, which saves and then ends them.
            # Its standard input closes when process 0 dies, however that came.
            command = [sys.executable, "-m", "lifelong.train.following"]
            self._started.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
            )

    def wait(self, sign: str) -> None:
        """Wait until all have given a sign.

        Raises:
            LifelongError: one ended before, or does not come.
        """
        keys = [f"{sign}/{rank}" for rank in range(1, self._size)]
        until = time.monotonic() + _START_SECONDS
        while not self.store.check(keys):
            ended = self.store.check([FAILED]) or any(process.poll() is not None for process in self._started)
            if ended or time.monotonic() > until:
                raise LifelongError(self.failure() or f"{self._size} processes were started, and not all came")
            time.sleep(0.02)

    def failure(self) -> str | None:
        """Return what happened to the first process that failed, None where none did."""
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            if self.store.check([FAILED]):
                return self.store.get(FAILED).decode()  # type: ignore[no-any-return]
            for rank, process in enumerate(self._started, start=1):
                if process.poll() is not None and process.returncode:
                    time.sleep(0.2)  # what it said may still be on its way
                    if not self.store.check([FAILED]):
                        return f"process {rank} of {self._size} {_ending(process.returncode)}"
            time.sleep(0.05)
        return None

    def end(self) -> None:
        """Wait until those that were told to stop have."""
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)

    def kill(self) -> None:
        """End those that still run."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"ended with code {code}"
