"""Files of settings as other tools write them, read in our words: sections, names, and what is not built yet.

Two forms are known: sections ``model``, ``training``, ``monitoring``, ``evaluation``, ``hardware`` (YAML), and ``data``
with a ``training`` section for each phase (JSON). Our own names hold beside them, in the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lifelong.errors import LifelongError, suggest
from lifelong.settings.base import Settings
from lifelong.settings.keys import canonical, group_of, leaves, nest
from lifelong.settings.load import SettingsFile

PHASES = ("pretrain", "sft", "mlm")

# Section, then the key in it: our setting. Keys of `training` may also stand outside of any section.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "model": {
        "preset": "preset",
        "dropout": "dropout",
        "max_seq_len": "sequence_length",
        "max_length": "sequence_length",
    },
    "training": {
        "num_epochs": "epochs",
        "total_steps": "steps",
        "max_steps": "steps",
        "micro_B": "batch_size",
        "accum_steps": "gradient_accumulation_steps",
        "max_length": "sequence_length",
        "use_mixed_precision": "amp",
    },
    "monitoring": {"wandb": "tracking.wandb", "trackio": "tracking.trackio"},
    "evaluation": {},
    "hardware": {
        "device": "device",
        "threads": "threads",
        "compile": "compile",
        "use_mixed_precision": "amp",
        "distributed": "distributed.enabled",
        "gpu_ids": "distributed.gpu_ids",
        "backend": "distributed.backend",
    },
    "data": {},
}
# Sections whose other keys are our own: below this name, or (training) anywhere.
_OURS = {"training": "", "evaluation": "evaluation.", "data": "data."}
# Accepted, and said where it is asked for: what has no effect here yet, why that is, and the keys of the group, if any.
_NOT_BUILT: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "monitoring.tensorboard": ("measures go to the run's metrics.jsonl", ("enabled", "log_dir")),
    "monitoring.plots": ("no pictures are drawn", ("enabled",)),
    "monitoring.log_every": ("every step is logged", ()),
}
# Groups there whose `enabled` is one switch of ours, where we have it.
_SWITCHES = {"monitoring.tensorboard": "tracking.tensorboard", "monitoring.plots": "tracking.plots"}
# Means something in one phase only.
_OF_PHASE = {
    "data.mix_pretrain": ("pretrain", "data.mix"),
    "data.mix_sft": ("sft", "data.mix"),
    "data.val_pretrain_source": ("pretrain", "data.validation"),
    "data.val_sft_source": ("sft", "data.validation"),
}
_PIPELINE = ("pretrain_config_path", "sft_config_path")
_TYPES = {"bf16": "bf16", "bfloat16": "bf16", "fp32": "fp32", "float32": "fp32", "fp16": "fp16", "float16": "fp16"}


@dataclass
class _Reading:
    cls: type[Settings]
    source: SettingsFile
    phase: str
    values: dict[str, Any] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, given: str, ours: str, value: Any) -> None:
        ours = canonical(self.cls, ours)
        if ours in self.values:
            raise LifelongError(
                f"setting '{ours}' is given twice, as '{self.given[ours]}' and as '{given}'",
                where=self.source.where(_dotted(given)),
            )
        self.values[ours], self.given[ours] = value, given

    def note(self, given: str, what: str) -> None:
        self.notes.append(f"note: {self.source.where(_dotted(given))}: '{given}' {what}")


def implied_phase(source: SettingsFile) -> str | None:
    """Return the only phase that a file has a ``training`` section of."""
    training = source.values.get("training")
    found = [phase for phase in PHASES if isinstance(training, Mapping) and phase in training]
    return found[0] if len(found) == 1 else None


def translate(cls: type[Settings], source: SettingsFile, phase: str) -> tuple[SettingsFile, list[str]]:
    """Return a file's settings under our names, and notes on what is accepted without effect.

    Args:
        cls: the settings that the names are of.
        source: the file; its lines are kept, under both names.
        phase: the phase of the run; sections of another phase are left out, with a note.

    Raises:
        LifelongError: a section has a key that nobody knows, a setting comes twice under two names, or the file is
            that of a pipeline.
    """
    reading = _Reading(cls, source, phase)
    for given, value in source.values.items():
        key = _dotted(given)
        if key in _PIPELINE:
            raise LifelongError(
                f"'{key}' names the settings of one stage of a pipeline; this verb trains one stage",
                where=source.where(key),
                fix=f"Run one stage with --config {value}, or all: lifelong pipeline --config {source.path} --out DIR",
            )
        if key in _NAMES:
            if not isinstance(value, Mapping | None):
                raise _no_section(reading, key, value)
            _section(reading, key, value or {})
        elif _not_built(reading, key, value):
            continue
        else:
            reading.take(str(given), _NAMES["training"].get(key, key), value)
    _precision(reading)
    lines = dict(source.lines)
    for ours, given in reading.given.items():
        start = _dotted(given)
        for path, line in source.lines.items():
            if path == start or path.startswith(f"{start}."):
                lines[ours + path.removeprefix(start)] = line
    return SettingsFile(source.path, nest(reading.values), lines), reading.notes


def _section(reading: _Reading, section: str, values: Mapping[Any, Any]) -> None:
    for name, value in values.items():
        key, given = _dotted(name), f"{section}.{name}"
        path = f"{section}.{key}"
        if section == "training" and key in PHASES:
            if not isinstance(value, Mapping | None):
                raise _no_section(reading, given, value)
            if key != reading.phase:
                reading.note(given, f"is left out: this run's phase is {reading.phase}")
                continue
            for inner, own in (value or {}).items():
                _training(reading, f"{given}.{inner}", _dotted(inner), own)
        elif path in _OF_PHASE:
            phase, ours = _OF_PHASE[path]
            if phase == reading.phase:
                reading.take(given, ours, value)
            else:
                reading.note(given, f"is left out: this run's phase is {reading.phase}")
        elif _not_built(reading, path, value):
            continue
        elif section == "training":
            _training(reading, given, key, value)
        elif key in _NAMES[section]:
            # `wandb: true` is as good as `wandb: {enabled: true}`.
            inner = ".enabled" if section == "monitoring" and isinstance(value, bool) else ""
            reading.take(given, _NAMES[section][key] + inner, value)
        elif section in _OURS:
            reading.take(given, _OURS[section] + key, value)
        else:
            raise _unknown(reading, section, given, key)


def _training(reading: _Reading, given: str, key: str, value: Any) -> None:
    if _not_built(reading, f"training.{key}", value, given):
        return
    ours = canonical(reading.cls, _NAMES["training"].get(key, key))
    known = {path for path, _ in leaves(reading.cls)} | {"amp", "amp_dtype"}
    if ours not in known and group_of(reading.cls, ours) is None:
        raise _unknown(reading, "training", given, key)
    reading.take(given, ours, value)


def _not_built(reading: _Reading, path: str, value: Any, given: str | None = None) -> bool:
    """Whether a key is one that does nothing yet; says so where it asks for something."""
    if path not in _NOT_BUILT:
        return False
    (reason, inner), given = _NOT_BUILT[path], given or path
    built = [name for name, _ in leaves(reading.cls)]
    own = path.removeprefix("training.")
    if own in built or any(name.startswith(f"{own}.") for name in built):
        return False
    group = value if isinstance(value, Mapping) else {}
    for key in group:
        if _dotted(key) not in inner:
            hint = suggest(_dotted(key), inner)
            raise LifelongError(f"unknown setting '{given}.{key}'.{hint}", where=reading.source.where(f"{given}.{key}"))
    if (switch := _SWITCHES.get(path)) in built:
        reading.take(given, str(switch), group.get("enabled", True) if group else value)
        for key in group:
            if key != "enabled":
                reading.note(f"{given}.{key}", "has no effect: a run keeps its files in its own folder")
    elif value not in (None, False) and group.get("enabled") is not False:
        reading.note(given, f"is not built yet and has no effect: {reason}")
    return True


def _precision(reading: _Reading) -> None:
    """Turn ``amp`` (mixed precision on or off) and ``amp_dtype`` into ``precision``."""
    on, kind = reading.values.pop("amp", None), reading.values.pop("amp_dtype", None)
    if on is None and kind is None:
        return
    key = reading.given["amp_dtype" if on is None else "amp"]
    if not isinstance(on, bool | None):
        raise LifelongError(
            f"setting '{key}' is true or false (given: {on!r})", where=reading.source.where(_dotted(key))
        )
    if kind is not None and str(kind) not in _TYPES:
        raise LifelongError(
            f"setting '{reading.given['amp_dtype']}' is one of {', '.join(_TYPES)} (given: {kind!r})",
            where=reading.source.where(_dotted(reading.given["amp_dtype"])),
        )
    precision = "fp32" if on is False else _TYPES.get(str(kind), "auto")
    reading.take(key, "precision", precision)


def _unknown(reading: _Reading, section: str, given: str, key: str) -> LifelongError:
    known = [*_NAMES[section], *(path.rpartition(".")[2] for path in _NOT_BUILT if path.startswith(f"{section}."))]
    if section == "training":
        own = (path for path, _ in leaves(reading.cls))
        known += ["amp", "amp_dtype", *getattr(reading.cls, "synonyms", {}), *own]
    prefix = given.rpartition(".")[0]
    near = suggest(key, known).partition("'")[2].rpartition("'")[0]
    hint = f" Did you mean '{near if '.' in near else f'{prefix}.{near}'}'?" if near else ""
    fix = "A shape of your own is a preset in a file: `preset: FILE.yaml`." if section == "model" else None
    return LifelongError(f"unknown setting '{given}'.{hint}", where=reading.source.where(_dotted(given)), fix=fix)


def _no_section(reading: _Reading, given: str, value: Any) -> LifelongError:
    return LifelongError(
        f"'{given}' is a section of settings, with a line for each (given: {value!r})",
        where=reading.source.where(_dotted(given)),
    )


def _dotted(given: Any) -> str:
    return str(given).replace("-", "_")
