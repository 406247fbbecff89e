"""Training a model further on batches of one's own: `continue_training`, as a script calls it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from lifelong import progress
from lifelong.device import pick_device, pick_precision
from lifelong.errors import LifelongError
from lifelong.files import writer_lock
from lifelong.model.base import LanguageModel
from lifelong.model.store import HOME
from lifelong.settings.train import EvaluationSettings, OptimizerSettings, ScheduleSettings
from lifelong.text.corpus import Corpus
from lifelong.tokens.loader import Batch
from lifelong.tokens.rows import IGNORE
from lifelong.train.detection import detect, move_aside
from lifelong.train.founding import commit_model
from lifelong.train.loop import Plan, precision, train_steps
from lifelong.train.optim import build_optimizers, schedule
from lifelong.train.remembering import matrix_with_row, measure_known
from lifelong.train.start import choose_rate, load_start


class DataLoader(Protocol):
    """What `create_dataloaders` returns, and a torch ``DataLoader`` of the same dictionaries."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]: ...


def continue_training(
    model_path: str | Path,
    train_dataloader: DataLoader,
    val_dataloader: DataLoader | None = None,
    *,
    learning_rate: float | None = None,
    epochs: int = 3,
    checkpoint_dir: str | Path | None = None,
    early_stopping_patience: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Train a model further on batches, and write the best epoch's weights as a model directory.

    Args:
        model_path: a model directory, a run or a checkpoint.
        train_dataloader: batches as of `create_dataloaders`: dictionaries of ``input_ids`` and ``labels`` (batch, time)
            int64, the labels not shifted, -100 where they do not count.
        val_dataloader: the same, held out; without it the last epoch counts as the best.
        learning_rate: peak rate; by default the one that `lifelong train` would choose for this model.
        epochs: passes over ``train_dataloader``, at most.
        checkpoint_dir: the model directory to write (default: ``model_path`` itself).
        early_stopping_patience: epochs without a better validation loss after which training stops.
        device: auto, cpu, cuda, mps.

    Returns:
        ``train_losses`` and ``val_losses`` of each epoch (nats per token), ``best_epoch`` (from 1), ``epochs``,
        ``stopped_early``, ``learning_rate`` and ``model_path``, what was written.

    Raises:
        LifelongError: there is no model, a batch is not of its vocabulary, or there is nothing to train on.
    """
    if epochs < 1 or len(train_dataloader) < 1:
        raise LifelongError("there is nothing to train on", fix="Give epochs=1 or more, and at least one batch.")
    place, out = Path(model_path), Path(checkpoint_dir or model_path)
    found = detect(out, base=place)
    for line in found.says:
        progress.note(line)
    model, tokenizer, origin = load_start(place, pick_device(device), further=found.further)
    model.config.require_causal("be trained further on such batches")
    optimizer = OptimizerSettings(learning_rate=learning_rate)
    rate, reason = choose_rate(optimizer, origin)
    progress.note(f"Learning rate {rate:.3g}: {reason}.")
    origin = replace(origin, learning_rate=rate, reason=reason)
    bf16 = pick_precision(model.device, "auto") == "bf16"
    total = epochs * len(train_dataloader)
    measured: dict[str, Any] = {"length": None, "max_bytes": EvaluationSettings().max_bytes}
    before = measure_known(model, tokenizer, origin, {}, **measured, before=True)
    rows = _Rows(train_dataloader, model.config.vocab_size)
    plan = Plan(
        total_steps=total,
        optimizers=build_optimizers(model, optimizer, bf16=bf16),
        rate=schedule(ScheduleSettings(kind="linear"), total, rate),
        bf16=bf16,
    )
    train_losses: list[float] = []
    val_losses: list[float] = []
    best, best_epoch, nats, tokens = copy.deepcopy(model.state_dict()), 0, 0.0, 0
    if found.lacking is not None:
        move_aside(out)
    with writer_lock(out / HOME), progress.task("Training further", total=total) as shown:
        for step in train_steps(model, rows, plan):
            nats, tokens = nats + step.loss * step.tokens, tokens + step.tokens
            shown.update(done=step.step)
            if step.step % len(train_dataloader):
                continue
            train_losses.append(nats / tokens)
            nats, tokens, epoch = 0.0, 0, len(train_losses)
            if val_dataloader is not None:
                val_losses.append(_loss(model, val_dataloader, bf16))
            if not val_losses or val_losses[-1] <= min(val_losses):
                best, best_epoch = copy.deepcopy(model.state_dict()), epoch
            if early_stopping_patience is not None and epoch - best_epoch >= early_stopping_patience:
                break
        model.load_state_dict(best)
        event = {
            "event": "train",
            "phase": "batches",
            "domain": "",
            "from": origin.kind,
            "base": origin.model if origin.kind == "base" else None,
            "learning_rate": rate,
            "epochs": len(train_losses),
            "validation_loss": val_losses[best_epoch - 1] if val_losses else None,
        }
        matrix = None
        if before is not None:
            matrix = matrix_with_row(
                origin, before, measure_known(model, tokenizer, origin, {}, **measured) or {}, "batches"
            )
        commit_model(out, model, tokenizer, Corpus(), origin, domain=None, event=event, matrix=matrix)
    return {
        "train_losses": train_losses,
        "val_losses": val_losses,
        "best_epoch": best_epoch,
        "epochs": len(train_losses),
        "stopped_early": len(train_losses) < epochs,
        "learning_rate": rate,
        "model_path": str(out),
    }


class _Rows:
    """Batches by step, as the loop asks for them; every epoch iterates over them anew."""

    def __init__(self, batches: DataLoader, vocab_size: int) -> None:
        self._batches, self._vocab_size = batches, vocab_size
        self._left: Iterator[Mapping[str, torch.Tensor]] = iter(())

    def batch(self, step: int) -> Batch:
        """Return the next batch; ``step`` counts up from 0."""
        if step % len(self._batches) == 0:
            self._left = iter(self._batches)
        return shifted(next(self._left), self._vocab_size)


def shifted(batch: Mapping[str, torch.Tensor], vocab_size: int) -> Batch:
    """Return a batch whose labels are the next tokens: position t predicts what the given labels hold at t + 1.

    Raises:
        LifelongError: a token is not of the vocabulary.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    if int(ids.max()) >= vocab_size:
        raise LifelongError(
            f"a batch holds token {int(ids.max())}, the model knows {vocab_size}",
            fix="Make the batches with the model's own tokenizer: load_model(PATH)[1].",
        )
    last = torch.full_like(labels[:, :1], IGNORE)
    return Batch(ids, torch.cat([labels[:, 1:], last], dim=1))


def _loss(model: LanguageModel, batches: DataLoader, bf16: bool) -> float:
    device = model.device
    nats, tokens = 0.0, 0
    model.eval()
    with torch.no_grad(), precision(device, bf16):
        for given in batches:
            batch = shifted(given, model.config.vocab_size).to(device)
            nats += float(model.loss_sum(batch.input_ids, batch.labels))
            tokens += int((batch.labels != IGNORE).sum())
    model.train()
    if tokens == 0:
        raise LifelongError("the validation batches hold no token to predict", fix="Give more held-out text.")
    return nats / tokens
