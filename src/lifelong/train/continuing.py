"""Training a saved model further on batches of one's own: `continue_training`, as a script calls it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.device import pick_device
from lifelong.evaluate.matrix import Measuring
from lifelong.locks import writer_lock
from lifelong.model.directory import find_model
from lifelong.model.store import HOME
from lifelong.settings.train import EvaluationSettings, OptimizerSettings, TrainSettings
from lifelong.text.corpus import Corpus
from lifelong.train.batches import DataLoader
from lifelong.train.detection import detect, move_aside
from lifelong.train.folder import RunFolder
from lifelong.train.founding import commit_model
from lifelong.train.remembering import matrix_with_row, measure_known
from lifelong.train.start import choose_rate, load_start
from lifelong.train.trainer import BEST_MODEL, Trainer


def continue_training(
    model_path: str | Path,
    train_dataloader: DataLoader,
    val_dataloader: DataLoader | None = None,
    learning_rate: float | None = None,
    epochs: int = 3,
    checkpoint_dir: str | Path | None = None,
    early_stopping_patience: int | None = None,
    early_stopping_min_delta: float = 0.0,
    *,
    device: str | None = None,
) -> dict[str, Any]:
    """Train a model of any of the three kinds further on batches; the best epoch's weights become a model directory.

    That directory goes on with the history, the memory and the matrix of the model that it comes from.

    Args:
        model_path: a model directory, a run, a checkpoint, or what a `Trainer` wrote into.
        train_dataloader: batches as of `create_dataloaders`, made with the model's own tokenizer.
        val_dataloader: the same, held out; without it the epoch with the lowest training loss counts as the best.
        learning_rate: peak rate, from which it falls to 0; by default what `lifelong train` would choose.
        epochs: passes over ``train_dataloader``, at most.
        checkpoint_dir: where ``best_model/`` is written; by default the model itself is replaced, and what it was stays
            in its history.
        early_stopping_patience: epochs without an improvement after which training stops.
        early_stopping_min_delta: the least change of the loss that counts as an improvement.
        device: auto, cpu, cuda, mps.

    Returns:
        as of `Trainer.train`; ``best_model`` is the model directory.

    Raises:
        LifelongError: there is no model, a batch is not of its vocabulary, or there is nothing to train on.
    """
    place = find_model(Path(model_path))
    out = place if checkpoint_dir is None else Path(checkpoint_dir) / BEST_MODEL
    found = detect(out, base=place)
    for line in found.says:
        progress.note(line)
    model, tokenizer, origin = load_start(place, pick_device(device), further=found.further)
    rate, reason = choose_rate(OptimizerSettings(learning_rate=learning_rate), origin)
    progress.note(f"Learning rate {rate:.3g}: {reason}.")
    origin = replace(origin, learning_rate=rate, reason=reason)
    settings = TrainSettings.build(
        {
            "epochs": epochs,
            "optimizer": {"learning_rate": rate},
            "schedule": {"kind": "linear"},
            "early_stopping": {"patience": early_stopping_patience, "min_delta": early_stopping_min_delta},
        }
    )
    measuring = Measuring(None, EvaluationSettings().max_bytes)
    before = measure_known(model, tokenizer, origin, {}, measuring, before=True)
    if found.lacking is not None:
        move_aside(out)
    with writer_lock(out / HOME):
        run = RunFolder.create(out, "batches", settings)
        trainer = Trainer(
            model,
            train_dataloader,
            val_dataloader,
            rate,
            run.path,
            device,
            early_stopping_patience,
            early_stopping_min_delta,
            early_stopping_metric="train_loss" if val_dataloader is None else "val_loss",
            tokenizer=tokenizer,
            schedule="linear",
            origin=origin,
        )
        results = trainer.train(epochs)
        trainer.put_best_back()
        event = {
            "event": "train",
            "phase": "batches",
            "domain": "",
            "from": origin.kind,
            "base": origin.model if origin.kind == "base" else None,
            "learning_rate": rate,
            "run": run.path.relative_to(out).as_posix(),
            "epochs": results["epochs_completed"],
            "validation_loss": results["best_val_loss"],
        }
        matrix = None
        if before is not None:
            after = measure_known(model, tokenizer, origin, {}, measuring) or {}
            matrix = matrix_with_row(origin, before, after, "batches", measuring)
        commit_model(out, model, tokenizer, Corpus(), origin, domain=None, event=event, matrix=matrix)
    return {**results, "best_model": str(out)}
