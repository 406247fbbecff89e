"""What a pipeline would do, and what that takes, said before it begins (``--dry-run``)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.device import matmul_flops, pick_device, pick_precision
from lifelong.model.directory import is_model_directory, read_config
from lifelong.pipeline.notes import Notes, reason_to_run
from lifelong.pipeline.planning import Layout, base_of
from lifelong.pipeline.rehearsal import Rehearsal, size_of
from lifelong.pipeline.training import TrainingStage
from lifelong.settings.model import ModelConfig
from lifelong.settings.pipeline import PipelineSettings
from lifelong.settings.presets import load_preset, state_bytes, weight_bytes
from lifelong.settings.profiles import cost
from lifelong.settings.train import TrainSettings
from lifelong.text.document import DataSource

# English text in a vocabulary of 8,000: 3.6 to 4.2 bytes a token. Ids take two bytes each below 65,536 of them.
_BYTES_PER_TOKEN, _ID_BYTES = 4, 2
_TRAIN_SHARE = 0.8
# What the stages beside the trainings do.
_BESIDE = {
    "tokenizer": "learning the tokenizer",
    "caches": "caching the text",
    "evaluate": "the evaluation",
    "export": "the check of the export",
}


def forecast(
    out: Path, settings: PipelineSettings, layout: Layout, notes: Notes, skip: Sequence[str], again: Sequence[str]
) -> dict[str, Any]:
    """Say which stages would run and why, and the length, time and disk of those that train; changes nothing.

    Steps are counted on the text, where it is small or cached already. Time is an estimate from this machine's speed
    at matrix products, disk the most that may be taken.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _forecast(out, settings, layout, notes, skip, again, Rehearsal(layout, Path(folder)))


def _forecast(
    out: Path,
    settings: PipelineSettings,
    layout: Layout,
    notes: Notes,
    skip: Sequence[str],
    again: Sequence[str],
    rehearsal: Rehearsal,
) -> dict[str, Any]:
    speed: float | None = None
    running: list[str] = []
    stages: dict[str, Any] = {}
    total = {"seconds": 0.0, "disk_bytes": 0}
    for stage in layout.stages:
        name = stage.name
        if name in skip:
            stages[name] = {"status": "skipped"}
            progress.note(f"{name}: skipped")
            continue
        before = [need for need in stage.needs if need in running]
        if name in again:
            why: str | None = "asked for again"
        elif before:
            why = f"'{before[0]}' runs before it"
        else:
            why = reason_to_run(notes.get(name), stage.inputs()) or stage.problem()
        if why is None:
            stages[name] = {"status": "up to date"}
            progress.note(f"{name}: up to date")
            continue
        running.append(name)
        stages[name] = {"status": "would run", "why": why}
        progress.note(f"{name}: would run ({why})")
        takes: dict[str, Any] = {}
        if isinstance(stage, TrainingStage):
            speed = speed or _speed(settings.device)
            takes = _training(settings, layout, stage, speed, rehearsal)
            _say(takes)
        elif name == "caches" and layout.sources is not None and (size := size_of(layout.sources.all)):
            takes = {"disk_bytes": size // _BYTES_PER_TOKEN * _ID_BYTES}
            progress.note(f"  {size / 1e6:,.1f} MB of text; about {takes['disk_bytes'] / 1e6:,.1f} MB of disk")
        rehearsal.prepare(stage)
        stages[name] |= takes
        total["seconds"] += takes.get("seconds") or 0.0
        total["disk_bytes"] += takes.get("disk_bytes", 0)
    if running:
        time = progress.spell_seconds(total["seconds"])
        progress.note(f"In all: about {time} of training, {total['disk_bytes'] / 1e6:,.0f} MB of disk at most.")
        beside = [_BESIDE.get(name, "measuring held-out text while training") for name in running]
        progress.note(f"Not counted in that time: {', '.join(dict.fromkeys(beside))}.")
    return {"out": str(out), "stages": stages, "estimate": total}


def _say(takes: dict[str, Any]) -> None:
    """Say what a training takes; figures that were not counted are about right."""
    about = "" if takes["counted"] else "about "
    known = "as long as the text is" if takes["tokens"] is None else f"{about}{takes['tokens']:,} tokens"
    steps = f"{about}{takes['steps']:,} steps, " if takes["steps"] else ""
    time = f", {progress.spell_seconds(takes['seconds'])}" if takes["seconds"] is not None else ""
    disk = f"{takes['disk_bytes'] / 1e6:,.0f} MB of disk at most"
    progress.note(f"  {takes['parameters']:,} parameters, {steps}{known}{time}; {disk}")


def _training(
    settings: PipelineSettings, layout: Layout, stage: TrainingStage, speed: float, rehearsal: Rehearsal
) -> dict[str, Any]:
    run = layout.training[stage.name]
    longest = _config(settings, stage, run, None).max_seq_len
    length = min(run.sequence_length or longest, longest)
    per_step = run.batch_size * run.gradient_accumulation_steps * length
    counted = rehearsal.steps(stage, run, length)
    config = _config(settings, stage, run, rehearsal.vocab_size)  # a new model's size follows from its tokenizer
    takes = cost(run, speed, config)
    tokens, seconds = takes.tokens, takes.seconds
    steps = run.steps or counted
    if run.minutes is not None:
        seconds = run.minutes * 60
        tokens = round(seconds * 1e6 / takes.seconds_per_million)
    elif steps is not None:
        tokens = steps * per_step
    elif run.epochs is not None and (size := size_of(_sources(settings, layout, stage.name))):
        tokens = round(run.epochs * _TRAIN_SHARE * size / _BYTES_PER_TOKEN)
    if tokens is not None and run.minutes is None:
        seconds = tokens * takes.seconds_per_million / 1e6
    if steps is None and tokens is not None:
        steps = max(1, -(-tokens // per_step))
    return {
        "parameters": config.parameters,
        "steps": steps,
        "counted": run.steps is not None or counted is not None,
        "tokens": tokens,
        "seconds": seconds,
        "disk_bytes": _disk(run, config),
    }


def _disk(run: TrainSettings, config: ModelConfig) -> int:
    """Models in force, final, best and of epochs; checkpoints: weights and optimizer state, no gradients."""
    epochs = min(run.checkpoint.keep_epochs, int(run.epochs or 1))
    checkpoint = state_bytes(config, run.optimizer.name) - weight_bytes(config)
    return (3 + epochs) * weight_bytes(config) + run.checkpoint.keep * checkpoint


def _config(
    settings: PipelineSettings, stage: TrainingStage, run: TrainSettings, vocab_size: int | None
) -> ModelConfig:
    place = base_of(settings) or (stage.out if stage.name == "train" else None)
    if place is not None and is_model_directory(place):
        config = read_config(place)
        if isinstance(config, ModelConfig):
            return config
    return load_preset(run.preset).config(vocab_size or settings.vocab_size)


def _sources(settings: PipelineSettings, layout: Layout, name: str) -> list[DataSource]:
    if settings.data_file:
        return [DataSource.parse(settings.data_file)]
    return list(layout.sources.of_phase(name)) if layout.sources is not None else []


def _speed(device: str) -> float:
    import torch

    place = pick_device(device)
    size = (1024, 512, 512) if place.type == "cpu" else (8192, 4096, 4096)
    return matmul_flops(place, torch.bfloat16 if pick_precision(place) == "bf16" else torch.float32, size)
