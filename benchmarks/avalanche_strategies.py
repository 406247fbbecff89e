"""Avalanche's Naive, Replay and EWC among the contestants: its experiences, its loop and its plugins, on our network.

A lesson is an experience of rows of token ids, the criterion the cross-entropy of every token. Batch, rows, epochs
(whole ones), optimizer, peak rate, schedule and clipping are those of lessons here (`Recipe`), so that Naive differs
from our `naive` in two things: it shuffles rows its own way, and it keeps the last weights rather than those that were
best on the gate.

The base model counts as the first experience, its training as done: what Avalanche does after one (it fills the replay
buffer, it finds what is important) is done on the text that the model directory remembers of the base.

Nothing was tuned. Replay's buffer holds as many rows as that memory; its batches are half replay, as ours are. EWC's λ
is N/2 for batches of N tokens: Avalanche squares the gradient of a batch's mean loss, which is 1/N of the Fisher
information per token, so its penalty is then ½·F·Δ² as with our λ of 1000. It is `separate`: a penalty for each
experience so far.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from lessons_bench import BASE, LENGTH, ROWS, Bench
from torch import Tensor

from lifelong.model.directory import load_model
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.tokens.rows import IGNORE, WindowSource
from lifelong.train.optim import build_optimizers, schedule, set_rates

# Everything that `import avalanche` imports beyond what is needed here anyway.
PACKAGES = (
    "avalanche",
    "torchvision",
    "pytorchcv",
    "torchmetrics",
    "qpsolvers",
    "gdown",
    "GPUtil",
    "dill",
    "wandb",
    "scipy",
)
_KERNELS = torch.library.Library("torchvision", "FRAGMENT")  # lives as long as what it declares


def avalanche_naive(bench: Bench) -> dict[str, Any]:
    """Avalanche's Naive."""
    return _taught(bench, "Naive")


def avalanche_replay(bench: Bench) -> dict[str, Any]:
    """Avalanche's Replay."""
    return _taught(bench, "Replay")


def avalanche_ewc(bench: Bench) -> dict[str, Any]:
    """Avalanche's EWC."""
    return _taught(bench, "EWC", ewc_lambda=ROWS * LENGTH / 2)


def _taught(bench: Bench, name: str, **choices: Any) -> dict[str, Any]:
    """Teach all domains in turn under one of its strategies."""
    declare_kernels()
    from avalanche.training import supervised
    from avalanche.training.utils import trigger_plugins

    torch.manual_seed(bench.seed)
    model, tokenizer = load_model(bench.model)
    model.requires_grad_(True)
    remembered = bench.rows(BASE, tokenizer)
    if name == "Replay":
        choices["mem_size"] = len(remembered)
    recipe = _recipe(bench.rate)
    strategy = getattr(supervised, name)(
        model=model,
        optimizer=_Together(model, bench.rate),
        criterion=_criterion,
        train_mb_size=ROWS,
        train_epochs=max(1, round(bench.options.epochs)),
        plugins=[recipe],
        evaluator=None,
        **choices,
    )
    strategy.experience = _experience(remembered, 0)
    began = time.perf_counter()
    trigger_plugins(strategy, "after_training_exp")
    rows, seconds = [bench.before], time.perf_counter() - began
    for number, domain in enumerate(bench.domains, start=1):
        experience = _experience(bench.rows(domain, tokenizer), number)
        began = time.perf_counter()
        strategy.train(experience, eval_streams=[])
        seconds += time.perf_counter() - began
        rows.append(bench.measure_model(model, tokenizer))
    return {"rows": rows, **vars(bench.costs(recipe.tokens, seconds))}


def declare_kernels() -> None:
    """Let torchvision be there without its compiled part; nothing here calls that.

    Avalanche imports it, and transformers and PEFT do where they find it. Its wheels on PyPI are built for CUDA.
    Beside a torch without CUDA their kernels do not load, and the import fails where two of them are described:
    declared by name, they need not exist.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    except RuntimeError:
        _KERNELS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KERNELS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _experience(rows: WindowSource, number: int) -> Any:
    from avalanche.benchmarks.scenarios import DatasetExperience
    from avalanche.benchmarks.utils import make_avalanche_dataset
    from torch.utils.data import TensorDataset

    ids, labels, _ = rows.rows(np.arange(len(rows)))
    dataset = make_avalanche_dataset(TensorDataset(torch.from_numpy(ids), torch.from_numpy(labels)))
    return DatasetExperience(dataset=dataset, current_experience=number)


def _criterion(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORE)


class _Together:
    """The optimizers of a lesson as one, which is what a strategy takes."""

    def __init__(self, model: torch.nn.Module, rate: float) -> None:
        settings = OptimizerSettings(name="muon", learning_rate=rate, weight_decay=0.1)
        self.parts = build_optimizers(model, settings)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state: dict[Any, Any] = {}  # Avalanche clears it; the parts have their own

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()


def _recipe(peak: float) -> Any:
    """Return the plugin that makes its steps those of a lesson, and counts tokens."""
    from avalanche.core import SupervisedPlugin

    class Recipe(SupervisedPlugin):
        tokens = 0

        def before_training_exp(self, strategy: Any, **_: Any) -> None:
            strategy.optimizer = _Together(strategy.model, peak)  # each lesson has new ones
            steps = strategy.train_epochs * math.ceil(len(strategy.experience.dataset) / ROWS)
            self.rate = schedule(ScheduleSettings(kind="linear"), steps, peak)

        def before_training_iteration(self, strategy: Any, **_: Any) -> None:
            step = strategy.clock.train_exp_iterations
            set_rates(strategy.optimizer, self.rate(step), step)
            self.tokens += int((strategy.mb_y != IGNORE).sum())

        def before_update(self, strategy: Any, **_: Any) -> None:
            torch.nn.utils.clip_grad_norm_(strategy.model.parameters(), 1.0)

    return Recipe()
