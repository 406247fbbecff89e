"""What a process does that follows: build the same model, and take its part in the steps that process 0 calls for."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import torch

from lifelong.errors import LifelongError
from lifelong.train.team import FAILED, JOB, LOADED, PATIENCE, READY, join, local_device

if TYPE_CHECKING:
    from lifelong.settings.train import TrainSettings
    from lifelong.train.distributed import World
    from lifelong.train.loop import Plan
    from lifelong.train.shared import SharedModel


def follows() -> bool:
    """Whether `torchrun` started this process to follow another."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["RANK"]) > 0


def follow() -> int:
    """Do what process 0 says until it says stop; returns an exit code. Only process 0 speaks to the user."""
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    # Ctrl-C is for process 0, which saves first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store, rank, size = next(rendezvous("env://"))
    try:
        store.set(f"{READY}/{rank}", "")
        store.wait([JOB], PATIENCE)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _work(store, rank, size)
    except Exception as error:
        plain = isinstance(error, LifelongError | torch.OutOfMemoryError)
        text = str(error).splitlines()[0] if plain else traceback.format_exc()
        if not store.check([FAILED]) and "onnection closed by peer" not in text:  # the others fail after the first
            store.set(FAILED, f"process {rank} of {size} failed: {text}")
        return 1
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def _work(store: Any, rank: int, size: int) -> None:
    from lifelong.model.directory import load_model
    from lifelong.settings.train import TrainSettings
    from lifelong.train.shared import SharedModel
    from lifelong.train.start import choose_dropout

    facts = json.loads(store.get(JOB))
    settings = TrainSettings.build(facts["settings"])
    torch.set_num_threads(facts["threads"])
    local_rank = int(os.environ["LOCAL_RANK"])
    device = local_device(torch.device(facts["device"]), settings.distributed.gpu_ids, local_rank)
    model, _ = load_model(facts["model"], device=device, adapter=None)
    model.requires_grad_(True)
    choose_dropout(model, settings)
    store.set(f"{LOADED}/{rank}", "")
    world = join(store, facts["backend"], rank, size, settings.seed)
    world.model = SharedModel(world, model, settings.distributed.strategy)
    _obey(world, world.model, settings, facts["precision"])


def _obey(world: World, shared: SharedModel, settings: TrainSettings, precision: str) -> None:
    from lifelong.settings.watching import HealthSettings
    from lifelong.train.health import Health
    from lifelong.train.job import make_plan
    from lifelong.train.loop import train_steps
    from lifelong.train.planning import compile_blocks

    plan: Plan | None = None
    while (told := world.hear())["do"] != "stop":
        do = told["do"]
        if do == "plan":
            plan = make_plan(settings, shared.trained, precision)
            plan.health = Health(HealthSettings(spikes=False, patience=sys.maxsize))  # process 0 judges, for all
            shared.adopt(plan)
        elif do == "step":
            assert plan is not None
            rate, plan.total_steps = told["rate"], told["step"] + 1
            plan.rate = lambda step, rate=rate: rate  # type: ignore[misc]
            plan.rows = told["split"]
            if plan.scaler is not None:
                plan.scaler.scale = told["scale"]
            for _ in train_steps(shared.trained, _Nothing(), plan, start=told["step"]):
                pass
        elif do == "compile":
            compile_blocks(shared.trained, "on", 0.0)
        elif do == "refresh":
            shared.refresh()
        elif do == "state":
            shared.state(plan.optimizers if plan else [])
        elif do == "load":
            shared.load(plan.optimizers if plan else [])


class _Nothing:
    """Stands for the loader, which process 0 alone has."""

    def batch(self, step: int) -> Any:
        raise AssertionError("only process 0 reads data")


def _end_with_parent() -> None:
    """End this process when process 0, at the other end of its standard input, is no more."""

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock would be held when the interpreter ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(follow())
