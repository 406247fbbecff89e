"""Named settings of whole runs, and settings merged: a profile, a file over it, flags over both (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from lifelong import progress
from lifelong.errors import LifelongError, suggest
from lifelong.settings.base import Settings
from lifelong.settings.guides import implied_phase, translate
from lifelong.settings.keys import canonical, walk
from lifelong.settings.load import SettingsFile, load_settings, read_settings_file
from lifelong.settings.model import ModelConfig
from lifelong.settings.presets import load_preset
from lifelong.settings.train import TrainSettings

_FOLDER = Path(__file__).parent / "profiles"
_ORDER = ("smoke-pretrain", "smoke-sft", "minimal", "minimal-sft", "dev", "dev-sft", "technical", "prod", "prod-sft")
# A step's share of the speed of a matrix product, forward, backward and optimizer: 1,322 tokens/s of a model of 11.2M
# parameters are half of what two cores with 170 GFLOP/s could do (benchmarks/training_speed.py; compiled: 0.6).
EFFICIENCY = 0.5


class Profile(Settings):
    """Named settings of one run, or the names of the profiles that a pipeline runs through."""

    name: str
    description: str = ""
    alias: str | None = None
    values: dict[str, Any] = Field(default_factory=dict, alias="settings")
    stages: tuple[str, ...] = ()

    def settings(self) -> TrainSettings:
        """Return the settings of a run with this profile and nothing else."""
        return _merge(self, None, {}, say=False)


@dataclass(frozen=True)
class Cost:
    """What a profile takes. ``tokens`` and ``seconds`` are None where the text decides how long the run is.

    ``seconds_per_million`` is of a million tokens.
    """

    parameters: int
    tokens: int | None
    seconds: float | None
    seconds_per_million: float


def list_profiles() -> list[Profile]:
    """Return all profiles that come with lifelong: the small ones first, pipelines last."""
    found = {path.stem: load_settings(Profile, path) for path in sorted(_FOLDER.glob("*.yaml"))}
    return [found[name] for name in _ORDER] + [found[name] for name in found if name not in _ORDER]


def load_profile(name: str) -> Profile:
    """Return the profile called ``name``, also by its alias.

    Raises:
        LifelongError: there is none; the near ones are named.
    """
    known = {key: profile for profile in list_profiles() for key in (profile.name, profile.alias) if key}
    if name not in known:
        raise LifelongError(
            f"unknown profile '{name}'.{suggest(name, known)}",
            fix=f"Profiles: {', '.join(known)}. `lifelong profiles` describes them.",
        )
    return known[name]


def load_train_settings(config: Path | str | None = None, overrides: Mapping[str, Any] | None = None) -> TrainSettings:
    """Merge defaults, a profile, a file and overrides, each over the one before; notes say what has no effect.

    The profile is named in the overrides or in the file; settings built in another way only record its name. The file
    may be in a form of `lifelong.settings.guides`.

    Raises:
        LifelongError: an unknown profile, key or value; names file and line.
    """
    source = read_settings_file(Path(config)) if config is not None else None
    given = {canonical(TrainSettings, key): value for key, value in walk(TrainSettings, overrides or {})}
    in_file = source.values.get("profile") if source is not None else None
    name = given.get("profile") or in_file
    if name is None:
        return _merge(None, source, given)
    try:
        profile = load_profile(str(name))
    except LifelongError as error:
        if source is not None and name == in_file:
            raise LifelongError(error.what, where=source.where("profile"), fix=error.fix) from None
        raise
    return _merge(profile, source, given)


def cost(settings: TrainSettings, flops_per_second: float, config: ModelConfig | None = None) -> Cost:
    """Estimate what a run takes: `ModelConfig.flops_per_token` at half the speed of a matrix product.

    Args:
        settings: of the run.
        flops_per_second: of a matrix product on the machine in question.
        config: of the model (default: a new one of the preset, with the preset's reference vocabulary).
    """
    config = config or load_preset(settings.preset).config()
    length = min(settings.sequence_length or config.max_seq_len, config.max_seq_len)
    per_token = config.flops_per_token(length) / (EFFICIENCY * flops_per_second)
    rows = settings.batch_size * settings.gradient_accumulation_steps
    tokens = settings.steps * rows * length if settings.steps is not None else None
    return Cost(config.parameters, tokens, None if tokens is None else tokens * per_token, 1e6 * per_token)


def _merge(
    profile: Profile | None, source: SettingsFile | None, given: Mapping[str, Any], *, say: bool = True
) -> TrainSettings:
    if profile is not None and profile.stages:
        first, *later = profile.stages
        raise LifelongError(
            f"profile '{profile.name}' is a pipeline of {', then '.join(profile.stages)}; `train` runs one of them",
            fix=f"Run all of it: `lifelong pipeline --profile {profile.name} --out DIR`. Or `lifelong train --profile "
            f"{first}`, then `--profile {' '.join(later)}` on the same --out.",
        )
    own = profile.values.get("phase") if profile is not None else None
    said = source.values.get("phase") if source is not None else None
    implied = implied_phase(source) if source is not None else None
    phase = str(given.get("phase") or said or own or implied or "pretrain")
    beneath: dict[str, Any] = {"phase": phase}
    notes: list[str] = []
    if profile is not None:
        file = SettingsFile(Path(f"profile {profile.name}"), profile.values)
        translated, notes = translate(TrainSettings, file, phase)
        beneath = {**translated.values, **beneath}
        given = {**given, "profile": profile.name}
    if source is not None:
        source, more = translate(TrainSettings, source, phase)
        notes += more
    if say:
        for line in notes:
            progress.note(line)
    return load_settings(TrainSettings, source, given, beneath=beneath)
