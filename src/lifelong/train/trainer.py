"""Training on batches of one's own: `Trainer`, as a script calls it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from lifelong import progress
from lifelong.device import pick_device, pick_precision
from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score
from lifelong.locks import writer_lock
from lifelong.model.adapters import merge_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import load_weights
from lifelong.model.encoder import give_mask_token
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.model.transformer import Transformer
from lifelong.settings.load import validate
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.settings.watching import EarlyStoppingSettings
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.pieces import spelled_bytes
from lifelong.tokens.rows import IGNORE
from lifelong.train.around import Around
from lifelong.train.batches import DataLoader, Reader, Rows, score_batches
from lifelong.train.drive import Drive
from lifelong.train.folder import RunFolder
from lifelong.train.founding import write_model_alone
from lifelong.train.interrupts import StopFlag
from lifelong.train.keeper import Keeper
from lifelong.train.loop import Plan
from lifelong.train.optim import NEW_EMBEDDINGS, build_optimizers, learning_rate, schedule
from lifelong.train.start import Origin
from lifelong.train.watch import Watch

BEST_MODEL = "best_model"


class Trainer:
    """Trains a model on batches, measures it after every epoch, keeps the best weights and stops early.

    ``checkpoint_dir`` gets ``best_model/``, a model directory, and ``metrics.jsonl``, a line for every step. Without
    validation batches the best epoch is the one with the lowest training loss.

    Args:
        model: any model of this package, on any device; it is trained in place. A bidirectional one without a mask
            token gets one.
        train_dataloader: batches as of `create_dataloaders`: dictionaries of ``input_ids`` and ``labels`` (batch, time)
            int64, the labels not shifted, -100 where they do not count.
        val_dataloader: the same, held out.
        learning_rate: peak rate (default: 3e-3, with Muon).
        checkpoint_dir: where to write.
        device: auto, cpu, cuda, mps.
        early_stopping_patience: epochs without an improvement after which training stops; the best weights are put
            back then. None trains all epochs.
        early_stopping_min_delta: the least change of the loss (nats per token) that counts as an improvement.
        early_stopping_metric: ``val_loss`` or ``train_loss``.
        tokenizer: that of the batches; those of `create_dataloaders` know theirs.
        weight_decay: of matrices, decoupled.
        schedule: how the learning rate goes over the epochs of one `train`: wsd, cosine, linear or constant.
        origin: where the weights come from, for the record of the model that is written.

    Raises:
        LifelongError: there is nothing to train on, the tokenizer is unknown or does not fit the model, or a setting is
            out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        train_dataloader: DataLoader,
        val_dataloader: DataLoader | None = None,
        learning_rate: float | None = None,
        checkpoint_dir: str | Path = "./checkpoints",
        device: str | None = None,
        early_stopping_patience: int | None = None,
        early_stopping_min_delta: float = 0.0,
        *,
        early_stopping_metric: Literal["val_loss", "train_loss"] = "val_loss",
        tokenizer: Tokenizer | None = None,
        weight_decay: float = 0.1,
        schedule: Literal["wsd", "cosine", "linear", "constant"] = "wsd",
        origin: Origin | None = None,
    ) -> None:
        if len(train_dataloader) < 1:
            raise LifelongError("there is nothing to train on", fix="Give at least one batch.")
        self.tokenizer = _tokenizer_of(train_dataloader, tokenizer)
        if early_stopping_metric == "val_loss" and val_dataloader is None:
            if early_stopping_patience is not None:
                raise LifelongError(
                    "early stopping watches the validation loss, and there are no validation batches",
                    fix='Give val_dataloader, or early_stopping_metric="train_loss".',
                )
            early_stopping_metric = "train_loss"
        watched = {
            "patience": early_stopping_patience,
            "min_delta": early_stopping_min_delta,
            "metric": early_stopping_metric,
        }
        given = {"learning_rate": learning_rate, "weight_decay": weight_decay}
        if origin is None:
            given["embedding_scale"] = NEW_EMBEDDINGS
        self._watch = Watch(validate(EarlyStoppingSettings, watched))
        self._optimizer = validate(OptimizerSettings, given)
        self._schedule = validate(ScheduleSettings, {"kind": schedule})
        self.model = model.to(pick_device(device))
        if merge_adapter(model):
            progress.note("What the model's adapter learned is merged into the weights, and trained with them.")
        if note := _fit(model, self.tokenizer):
            progress.note(note)
        if self.tokenizer.vocab_size > model.config.vocab_size:
            raise LifelongError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, the model only {model.config.vocab_size}",
                fix='Make the model with "vocab_size": tokenizer.vocab_size.',
            )
        self.checkpoint_dir = Path(checkpoint_dir)
        self._origin = origin or Origin("new", learning_rate=self.learning_rate)
        self._batches, self._val = train_dataloader, val_dataloader
        self._reader = Reader(model, self.tokenizer, seed=0)
        self._rows = Rows(train_dataloader, self._reader)
        self._run = RunFolder(self.checkpoint_dir)
        self._keeper = Keeper(self.checkpoint_dir, self._write, keep_epochs=0, best=BEST_MODEL)
        self._step = self._holds = 0  # steps done, and the step whose weights the model has
        if self._run.metrics_file.exists():
            progress.note(f"note: {self.checkpoint_dir} holds an earlier training, whose metrics are replaced")

    @property
    def learning_rate(self) -> float:
        """The peak rate."""
        return learning_rate(self._optimizer)

    @property
    def best_model(self) -> Path:
        """The model directory with the best weights so far."""
        return self.checkpoint_dir / BEST_MODEL

    def measure(self) -> Score | None:
        """Return the score on the validation batches; None where there are none."""
        return None if self._val is None else score_batches(self.model, self.tokenizer, self._val, self._reader)

    def train(self, epochs: int = 10) -> dict[str, Any]:
        """Train for a number of epochs; called again, training goes on, and the best stays the best of all.

        Returns:
            ``epochs_completed``, ``early_stopped``; of each epoch ``train_losses`` and ``val_losses`` (nats per token,
            the latter empty without validation batches) and ``val_bits_per_byte``; ``best_epoch`` (from 1, over all
            calls; None where no loss was a number), ``best_val_loss``; ``best_model`` (a path), ``learning_rate``, and
            ``before``: the validation loss before the first step.

        Raises:
            LifelongError: ``epochs`` is not positive, a batch does not fit the model, or the loss was not a number
                three times in a row.
        """
        if epochs < 1:
            raise LifelongError(f"there is nothing to train on in {epochs} epochs", fix="Give epochs=1 or more.")
        per_epoch = len(self._batches)
        start, total = self._step, self._step + epochs * per_epoch
        ends = {start + number * per_epoch: start // per_epoch + number for number in range(1, epochs + 1)}
        self._watch.wait_anew()
        around = Around(
            rows_per_step=1,
            rows_per_epoch=per_epoch,
            keeper=self._keeper,
            watch=self._watch,
            epoch_ends=ends,
            measure_epochs=True,
        )
        with writer_lock(self.checkpoint_dir):
            self._run.rewind(start)
            before = self.measure()
            drive = Drive(
                run=self._run,
                label="Training",
                bytes_per_token=self._bytes_per_token(),
                measure=None if self._val is None else self._measured,
                around=around,
            )
            drive.steps(self.model, self._rows, self._plan(start, total), StopFlag(), start=start)
            self._step = self._holds = drive.ended_at
            if self._watch.settings.on:
                self.put_best_back()
        return self._results(start, per_epoch, before)

    def _measured(self) -> Score:
        assert self._val is not None
        return score_batches(self.model, self.tokenizer, self._val, self._reader)

    def _plan(self, start: int, total: int) -> Plan:
        rate = schedule(self._schedule, total - start, self.learning_rate)
        bf16 = pick_precision(next(self.model.parameters()).device) == "bf16"
        return Plan(
            total_steps=total,
            optimizers=build_optimizers(self.model, self._optimizer, bf16=bf16),
            rate=lambda step: rate(step - start),
            grad_clip=self._optimizer.grad_clip,
            bf16=bf16,
        )

    def _bytes_per_token(self) -> float:
        """Return how many bytes a label spells, from the batch that comes next: for the figures on the way."""
        labels = self._rows.peek().labels
        if isinstance(self.model, EncoderDecoderModel):
            self.model.use_prompts("spans" if self._reader.plain else "plain", self.tokenizer)
        counted = int((labels != IGNORE).sum())
        size = spelled_bytes(self.tokenizer, labels.flatten().tolist(), {})
        return size / counted if size and counted else 1.0

    def put_best_back(self) -> None:
        """Give the model the best weights so far; with early stopping `train` does it."""
        best = self._watch.best_step
        if best is not None and best != self._holds and self._keeper.whole_best(best):
            progress.note(f"The weights of epoch {best // len(self._batches)}, the best, are put back.")
            load_weights(self.model, self.best_model)
            self._holds = best

    def _results(self, start: int, per_epoch: int, before: Score | None) -> dict[str, Any]:
        rows = [row for row in self._run.metrics() if row["step"] > start]
        epochs = [rows[at : at + per_epoch] for at in range(0, len(rows), per_epoch)]
        best = self._watch.best_step
        by_step = {row["step"]: row for row in self._run.metrics()}
        return {
            "epochs_completed": len(epochs),
            "early_stopped": self._watch.exhausted,
            "train_losses": [_mean_loss(epoch) for epoch in epochs],
            "val_losses": [epoch[-1]["gate_loss"] for epoch in epochs if "gate_loss" in epoch[-1]],
            "val_bits_per_byte": [
                epoch[-1]["gate_bits_per_byte"] for epoch in epochs if "gate_bits_per_byte" in epoch[-1]
            ],
            "before": before.loss if before else None,
            "best_epoch": None if best is None else best // per_epoch,
            "best_val_loss": None if best is None else by_step[best].get("gate_loss"),
            "best_model": str(self.best_model),
            "learning_rate": self.learning_rate,
        }

    def _write(self, place: Path) -> None:
        title = self.checkpoint_dir.resolve().name
        write_model_alone(place, self.model, self.tokenizer, self._origin, title)


def _fit(model: LanguageModel, tokenizer: Tokenizer) -> str | None:
    """Give a model the tokens that its kind of training needs; returns what was done."""
    if isinstance(model, EncoderDecoderModel):
        return model.fit(tokenizer)
    return give_mask_token(model, tokenizer) if isinstance(model, Transformer) else None


def _mean_loss(rows: list[dict[str, Any]]) -> float:
    healthy = [row for row in rows if math.isfinite(row["loss"])]
    tokens = sum(row["tokens"] for row in healthy)
    return sum(row["loss"] * row["tokens"] for row in healthy) / tokens if tokens else math.nan


def _tokenizer_of(batches: DataLoader, given: Tokenizer | None) -> Tokenizer:
    known = getattr(batches, "tokenizer", None)
    if given is not None and known is not None and given.fingerprint != known.fingerprint:
        raise LifelongError("tokenizer is another than the one that the batches were made with")
    tokenizer = given or known
    if not isinstance(tokenizer, Tokenizer):
        raise LifelongError(
            "the batches do not know their tokenizer, and a model is kept with the one it was trained with",
            fix="Give tokenizer=..., or make the batches with create_dataloaders(...).",
        )
    return tokenizer
