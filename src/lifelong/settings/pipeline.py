"""Settings of all stages of a pipeline: from sources to a tuned model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator

from lifelong.errors import LifelongError
from lifelong.settings.keys import NamedSettings
from lifelong.settings.load import load_settings, read_settings_file
from lifelong.settings.profiles import load_profile, load_train_settings
from lifelong.settings.train import TrainSettings

DEFAULT_PROFILE = "pipeline-dev"
STAGES = ("tokenizer", "caches", "pretrain", "sft", "train", "evaluate", "export")
_FILES = ("pretrain_config_path", "sft_config_path")


def _pairs(value: Any) -> Any:
    """Read ``KEY=VALUE`` pairs, as the command line takes them; values are spelled as in YAML."""
    if not isinstance(value, list | tuple):
        return value
    found: dict[str, Any] = {}
    for item in value:
        key, given, text = str(item).partition("=")
        if not key or not given:
            raise ValueError(f"write it as KEY=VALUE, for example steps=100, not {item!r}")
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"the value of {key} is not spelled as in YAML: {text!r}") from None
    return found


Overrides = Annotated[dict[str, Any], BeforeValidator(_pairs)]


class PipelineSettings(NamedSettings):
    """Settings of ``lifelong pipeline``."""

    synonyms: ClassVar[dict[str, str]] = {"model_name": "base"}

    profile: str | None = Field(
        default=None,
        description=f"A pipeline of `lifelong profiles` (default: {DEFAULT_PROFILE}, where no file says otherwise).",
    )
    data: list[str] = Field(
        default=[], description="Running text to pretrain on: PATH[:KIND][@WEIGHT] of files, folders, globs."
    )
    chat: list[str] = Field(default=[], description="Conversations to tune on, spelled likewise.")
    data_file: str | None = Field(
        default=None, description="One file to train on, further what --out holds; no stages of tokenizer and caches."
    )
    roam_dir: str | None = Field(default=None, description="A Roam export, beside the usual sets of the hub.")
    primer: str | None = Field(default=None, description="A file of primer dialogues, beside the sets of the hub.")
    tokenizer: str | None = Field(default=None, description="A tokenizer that is there already.")
    cache_dir: str | None = Field(default=None, description="Token caches that are there already.")
    base: str | None = Field(default=None, description="A model to start from, instead of a new one.")
    onnx_output: str | None = Field(default=None, description="Where to write the model's ONNX export.")
    pretrain_config_path: str | None = Field(default=None, description="A file of settings of pretraining.")
    sft_config_path: str | None = Field(default=None, description="A file of settings of chat tuning.")
    pretrain: Overrides = Field(
        default={}, description="Settings of pretraining over profile and file, KEY=VALUE of `lifelong train`."
    )
    sft: Overrides = Field(default={}, description="The same of chat tuning.")
    preset: str | None = Field(default=None, description="Shape of a new model, over the profile's.")
    epochs: float | None = Field(default=None, gt=0, description="Passes over the text, over the profile's length.")
    vocab_size: int | None = Field(
        default=None, gt=0, description="Entries of the tokenizer, fewer where text is scarce (default: 8000 or 16000)."
    )
    tokenizer_kind: Literal["bpe", "sentencepiece"] = Field(default="bpe", description="Kind of a new tokenizer.")
    fineweb_train_tokens: int = Field(default=200_000_000, gt=0, description="Tokens of FineWeb-Edu for training.")
    fineweb_val_tokens: int = Field(default=5_000_000, gt=0, description="Tokens of FineWeb-Edu for val, and for test.")
    seed: int = Field(default=0, ge=0, description="Seed of splits, weights and data order.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        own = [name for name in ("data", "chat") if getattr(self, name)]
        hub = [name for name in ("roam_dir", "primer") if getattr(self, name)]
        if self.data_file and (others := [*own, *hub, *(["cache_dir"] if self.cache_dir else [])]):
            raise ValueError(f"data_file trains on one file alone (given beside it: {', '.join(others)})")
        if own and hub:
            raise ValueError(
                f"{' and '.join(hub)} go with the sets of the hub; beside {' and '.join(own)} name them there too "
                "(PATH:roam, PATH:primer)"
            )
        if self.cache_dir and (own or hub):
            raise ValueError(f"cache_dir names caches that are there, {' and '.join(own + hub)} what to build")
        if self.base and not (own or self.data_file):
            raise ValueError("a base is trained on text of your own: name it with data, chat or data_file")
        return self

    def stage(self, phase: Literal["pretrain", "sft"], changes: Mapping[str, Any] | None = None) -> TrainSettings:
        """Return the settings of the run of a stage: profile, file, the stage's own overrides, ``changes`` over all.

        Raises:
            LifelongError: the profile is unknown or none of a pipeline, a key is unknown, a value does not fit.
        """
        file = self.pretrain_config_path if phase == "pretrain" else self.sft_config_path
        own = self.pretrain if phase == "pretrain" else self.sft
        given: dict[str, Any] = {"phase": phase, "seed": self.seed, "device": self.device}
        given |= {name: value for name in ("preset", "epochs") if (value := getattr(self, name)) is not None}
        if (profile := self._profile_of(phase)) is not None:
            given["profile"] = profile
        try:
            return load_train_settings(file, {**given, **own, **(changes or {})})
        except LifelongError as error:
            raise LifelongError(error.what, where=error.where or f"settings of {phase}", fix=error.fix) from None

    def _profile_of(self, phase: Literal["pretrain", "sft"]) -> str | None:
        name = self.profile
        if name is None:
            name = None if self.data_file or self.pretrain_config_path or self.sft_config_path else DEFAULT_PROFILE
        if name is None:
            return None
        profile = load_profile(name)
        if profile.stages:
            return profile.stages[0] if phase == "pretrain" else profile.stages[1]
        if self.data_file:
            return name
        raise LifelongError(
            f"profile '{name}' is one of a single run",
            fix=f"Give a pipeline ({DEFAULT_PROFILE}), or name it for one stage: --{phase} profile={name}.",
        )


def load_pipeline_settings(
    config: Path | str | None = None, overrides: Mapping[str, Any] | None = None
) -> PipelineSettings:
    """Merge defaults, a file and overrides. Files that the file names are found beside it or in the working directory.

    Raises:
        LifelongError: an unknown key or a wrong value, or a named file is not there; names file and line.
    """
    source = read_settings_file(Path(config)) if config is not None else None
    if source is not None:
        for key in _FILES:
            if isinstance(value := source.values.get(key), str):
                places = (source.path.parent / Path(value).expanduser(), Path(value).expanduser())
                found = next((place for place in places if place.is_file()), None)
                if found is None:
                    beside = f"It is looked for in {source.path.parent} and in the working directory."
                    raise LifelongError(f"there is no file '{value}'", where=source.where(key), fix=beside)
                source.values[key] = str(found)
    return load_settings(PipelineSettings, source, overrides)
