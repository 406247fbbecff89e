"""The model that a run starts from, where it comes from, and the learning rate that follows from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import read_json
from lifelong.model.adapters import merge_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, load_model
from lifelong.model.hub import base_name
from lifelong.model.outside import load_outside
from lifelong.model.store import ModelStore
from lifelong.settings.train import OptimizerSettings, TrainSettings
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer
from lifelong.train.detection import Found
from lifelong.train.optim import NEW_EMBEDDINGS, learning_rate

# The usual rate of tuning a pretrained base, and a fifth of it when going on from there.
BASE_RATE, FURTHER_RATE = 5e-5, 1e-5
# A model trained from nothing here was trained at a rate some hundred times higher. The share is the middle of the
# usual 0.1 to 0.3, chosen without a figure so far: `benchmarks/further_rate.py` measures it.
FURTHER_SHARE = 0.2
# Pretrained models take rows far longer than the memory here.
LONGEST = 1024


@dataclass(frozen=True)
class Origin:
    """Where the weights of a run come from.

    Attributes:
        kind: ``new``; ``base``: another model; ``further``: the model that the output directory held.
        model: the directory that the weights were read from.
        pretrained: the base from elsewhere that the lineage began with; None where it began with nothing, here.
        peak_learning_rate: the highest rate the lineage was trained at here; 0 where it was not.
        learning_rate: the peak rate of this run.
        reason: why that rate.
    """

    kind: Literal["new", "base", "further"]
    model: str | None = None
    pretrained: str | None = None
    peak_learning_rate: float = 0.0
    learning_rate: float = 0.0
    reason: str = ""

    @property
    def past(self) -> Path | None:
        """The directory whose memory and frozen slices go on with the model."""
        return Path(self.model) if self.model else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for ``run.json``."""
        return asdict(self)


@dataclass(frozen=True)
class Start:
    """A model to train, and the settings with all that follows from its origin filled in."""

    model: LanguageModel
    tokenizer: Tokenizer
    settings: TrainSettings
    origin: Origin


def open_start(
    found: Found,
    settings: TrainSettings,
    device: torch.device,
    *,
    tokenizer: Path | None,
    new_tokenizer: Callable[[], Tokenizer],
    new_model: Callable[[Tokenizer], LanguageModel],
) -> Start:
    """Load what `detect` found, or make a new model; choose the learning rate, and say it.

    Raises:
        LifelongError: the model cannot be read, or ``tokenizer`` is another than its own.
    """
    if found.start is None:
        words = load_tokenizer(tokenizer) if tokenizer is not None else new_tokenizer()
        model, origin = new_model(words), Origin("new")
    else:
        model, words, origin = load_start(found.start, device, further=found.further)
        if tokenizer is not None and load_tokenizer(tokenizer).fingerprint != words.fingerprint:
            raise LifelongError(f"the tokenizer is not the one of the model in {found.start}", where=str(tokenizer))
    rate, reason = choose_rate(settings.optimizer, origin)
    progress.note(f"Learning rate {rate:.3g}: {reason}.")
    filled: dict[str, Any] = {"learning_rate": rate}
    if settings.optimizer.embedding_scale is None and origin.kind == "new":
        filled["embedding_scale"] = NEW_EMBEDDINGS
    settings = settings.model_copy(update={"optimizer": settings.optimizer.model_copy(update=filled)})
    if origin.pretrained and settings.sequence_length is None and model.config.max_seq_len > LONGEST:
        progress.note(f"Rows of {LONGEST} tokens; the model takes {model.config.max_seq_len} (--sequence-length).")
        settings = settings.model_copy(update={"sequence_length": LONGEST})
    origin = Origin(origin.kind, origin.model, origin.pretrained, origin.peak_learning_rate, rate, reason)
    return Start(model, words, settings, origin)


def choose_dropout(model: LanguageModel, settings: TrainSettings) -> TrainSettings:
    """Give a model the dropout of the settings, and return the settings with the one that it has.

    A model directory does not hold it, so the settings of a run do.
    """
    if settings.dropout is not None:
        model.set_dropout(settings.dropout)
    elif model.config.dropout:
        return settings.model_copy(update={"dropout": model.config.dropout})
    return settings


def choose_rate(optimizer: OptimizerSettings, origin: Origin) -> tuple[float, str]:
    """Return a run's peak learning rate and the reason for it.

    A rate that is given wins. A pretrained base from elsewhere takes 5e-5, and 1e-5 when its training goes on. A model
    trained from nothing here would not move at such rates: it goes on at a share of the highest it was trained at
    (`FURTHER_SHARE`).
    """
    if optimizer.learning_rate is not None:
        return optimizer.learning_rate, "as given"
    if origin.kind == "new":
        return learning_rate(optimizer), f"the standard of {optimizer.name} for a new model"
    if origin.pretrained is None:
        share = f"{FURTHER_SHARE:g} of {origin.peak_learning_rate:.3g}, the highest the model was trained at here"
        return FURTHER_SHARE * origin.peak_learning_rate, f"{share}, to preserve what it knows"
    if origin.kind == "base" and not origin.peak_learning_rate:
        return BASE_RATE, "the standard for a pretrained base"
    return FURTHER_RATE, "lower, to preserve what the model knows"


def load_start(path: Path, device: torch.device, *, further: bool) -> tuple[LanguageModel, Tokenizer, Origin]:
    """Load a model of whatever maker, all weights to be trained, and find out its lineage; says what was changed.

    Raises:
        LifelongError: files are missing or damaged, or the family is another.
    """
    place = find_model(path)
    kind: Literal["base", "further"] = "further" if further else "base"
    state = ModelStore.open(place).state() or _state_of_run(place)
    if not state:
        model, words, notes = load_outside(place, device=device)
        for line in notes:
            progress.note(f"note: {line}")
        return model, words, Origin(kind, str(place), pretrained=base_name(place))
    names = [item["name"] for item in state.get("adapters", [])]
    if len(names) > 1:
        raise LifelongError(
            f"the model has {len(names)} adapters ({', '.join(names)}), which belong to its weights as they are",
            where=str(place),
            fix="Fold them into the weights (lifelong consolidate MODEL), or teach a lesson (lifelong learn MODEL).",
        )
    model, words = load_model(place, device=device, adapter=names[0] if names else None)
    if names:
        merge_adapter(model)
        progress.note(f"What the adapter '{names[0]}' learned is merged into the weights, and trained with them.")
    model.requires_grad_(True)
    peak = float(state.get("peak_learning_rate") or 0.0)
    pretrained = state.get("pretrained") or (None if peak else base_name(place))
    return model, words, Origin(kind, str(place), pretrained=pretrained, peak_learning_rate=peak)


def _state_of_run(place: Path) -> dict[str, Any]:
    """Return what the run that a checkpoint is of knows of its lineage; empty where this is no checkpoint."""
    run = place.resolve().parent.parent / "run.json"
    if not run.is_file():
        return {}
    facts = read_json(run)
    origin = Origin(**facts["start"])
    return {
        "peak_learning_rate": max(facts["learning_rate"], origin.peak_learning_rate),
        **({"pretrained": origin.pretrained} if origin.pretrained else {}),
    }
