"""Profiles, and settings files as other guides write them, through the command line."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifelong.cli.app import main
from lifelong.settings.load import load_settings
from lifelong.settings.profiles import list_profiles, load_train_settings
from lifelong.settings.train import TrainSettings
from lifelong.tokens import BPETokenizer

# Sections model, training, monitoring, evaluation, hardware.
_SECTIONED = """\
# a model of technical text
model:
  preset: "PRESET"

training:
  epochs: 50
  batch_size: 16
  gradient_accumulation_steps: 4
  learning_rate: 3.0e-4
  warmup_steps: 2000
  lr_scheduler: "cosine"
  min_lr: 1.0e-5
  use_mixed_precision: true

  early_stopping:
    enabled: true
    patience: 5
    min_delta: 0.001
    metric: "val_loss"
    mode: "min"

monitoring:
  tensorboard:
    enabled: true
  wandb:
    enabled: true
    project: "trial"

evaluation:
  generation:
    enabled: true
    prompts:
      - "The with statement"
    max_length: 100
    temperature: 0.8
    num_samples: 3

hardware:
  distributed: true
  gpu_ids: [0, 1]
  backend: "nccl"
"""
# A section for each phase.
_PHASED: dict[str, Any] = {
    "data": {
        "caches": {"pretrain_token_cache": "CACHES", "sft_token_cache": "CACHES"},
        "mix_pretrain": {"docs": 0.75, "notes": 0.25},
        "val_pretrain_source": "notes",
    },
    "training": {
        "pretrain": {"total_steps": 3, "micro_B": 2, "accum_steps": 2, "amp": True, "amp_dtype": "fp16"},
        "sft": {"micro_B": 3, "total_steps": 2, "amp": False},
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, conversations, a tokenizer, a small preset, and caches `docs` and `notes`, `talk`."""
    root = tmp_path_factory.mktemp("profiles")
    texts = [text for _, text in sorted(topics.topics.items())]
    for folder, some in (("docs", texts[:40]), ("notes", texts[40:60])):
        (root / folder).mkdir()
        for number, text in enumerate(some):
            (root / folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    turns = [
        [{"role": "user", "content": f"What is {name}?"}, {"role": "assistant", "content": text[:300]}]
        for name, text in sorted(topics.topics.items())
    ]
    (root / "talk.jsonl").write_text("".join(json.dumps({"messages": item}) + "\n" for item in turns))
    BPETokenizer(600).train(texts[:60]).save(root / "tok")
    (root / "small.yaml").write_text(
        "name: small-test\nreference_vocab_size: 600\n"
        "model: {d_model: 32, num_layers: 1, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}\n"
    )
    for source in ("docs", "notes", "talk.jsonl"):
        arguments = ["cache", "build", str(root / source), "--out", str(root / "caches"), "--workers", "1"]
        assert main([*arguments, "--tokenizer", str(root / "tok")]) == 0
    return root


def _train(place: Path, out: Path, *arguments: str | Path) -> int:
    given = ["--tokenizer", place / "tok", "--out", out, "--threads", "1", "--compile", "off", *arguments]
    return main(["train", *map(str, given)])


def _resolved(out: Path) -> dict[str, Any]:
    (path,) = out.glob("runs/*/resolved_settings.yaml")
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values


def _sectioned(place: Path, folder: Path) -> Path:
    config = folder / "technical.yaml"
    config.write_text(_SECTIONED.replace("PRESET", str(place / "small.yaml")))
    return config


def _phased(place: Path, folder: Path, values: dict[str, Any] = _PHASED) -> Path:
    config = folder / "phases.json"
    config.write_text(json.dumps(values, indent=2).replace("CACHES", str(place / "caches")))
    return config


def test_f30_a_sectioned_yaml_trains_as_it_stands(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _sectioned(place, tmp_path)
    # Fewer epochs, so that the test is short; all else is the file's.
    flags = ["--config", config, "--epochs", "0.2", "--evaluation.max-bytes", "2000", "--tracking.wandb.no-enabled"]
    assert _train(place, tmp_path / "m", "--data", place / "docs", *flags) == 0
    said, resolved = capsys.readouterr().err, _resolved(tmp_path / "m")
    assert (resolved["batch_size"], resolved["gradient_accumulation_steps"]) == (16, 4)
    assert resolved["optimizer"]["learning_rate"] == 3e-4
    schedule = resolved["schedule"]
    assert (schedule["kind"], schedule["warmup_steps"], schedule["min_lr"]) == ("cosine", 2000, 1e-5)
    assert (resolved["precision"], resolved["preset"]) == ("auto", str(place / "small.yaml"))
    assert "warm-up of 2,000 steps is capped" in said
    assert "is not built yet" not in said
    rates = [
        json.loads(row)["lr"] for row in (tmp_path / "m/runs/0001-pretrain/metrics.jsonl").read_text().splitlines()
    ]
    assert max(rates) == pytest.approx(3e-4) and min(rates) >= 1e-5


def test_f30_the_technical_profile_has_the_same_values(place: Path, tmp_path: Path) -> None:
    profile = load_train_settings(None, {"profile": "technical"})
    file = load_train_settings(_sectioned(place, tmp_path), {"preset": "gpt-small"})
    left = profile.model_dump(exclude={"profile", "evaluation", "tracking", "distributed"})
    assert left == file.model_dump(exclude={"profile", "evaluation", "tracking", "distributed"})
    assert (profile.epochs, profile.batch_size, profile.preset) == (50, 16, "gpt-small")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            "  warmup_steps: 2000",
            "  warmup_stps: 2000",
            10,
            "'training.warmup_stps'. Did you mean 'training.warmup_steps'",
        ),
        ("  backend:", "  bakend:", 41, "'hardware.bakend'. Did you mean 'hardware.backend'"),
        ("  preset:", "  presett:", 3, "'model.presett'. Did you mean 'model.preset'"),
        ("model:", "modell:", 2, "'modell'"),
        ("  batch_size: 16", "  batch_size: many", 7, "'batch_size'"),
        ("  use_mixed_precision: true", "  use_mixed_precision: 3", 13, "true or false"),
        ("  epochs: 50", "  epochs: 50\n  num_epochs: 3", 7, "given twice, as 'training.epochs' and as"),
        ("  epochs: 50", "  amp_dtype: fp8", 6, "one of bf16"),
    ],
)
def test_f30_a_mistake_is_named_with_its_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: int, message: str
) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(_SECTIONED.replace(old, new, 1))
    assert _train(place, tmp_path / "m", "--data", place / "docs", "--config", config) == 2
    said = capsys.readouterr().err
    assert f"{config}:{line}: " in said and message in said
    assert not (tmp_path / "m").exists()


def test_f40_a_json_of_phases_trains_either_phase(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _phased(place, tmp_path)
    shared = ["--preset", place / "small.yaml", "--config", config, "--evaluation.max-bytes", "2000"]
    assert _train(place, tmp_path / "a", *shared) == 0
    said, first = capsys.readouterr().err, _resolved(tmp_path / "a")
    assert (first["phase"], first["steps"], first["batch_size"], first["gradient_accumulation_steps"]) == (
        "pretrain",
        3,
        2,
        2,
    )
    assert first["data"]["mix"] == {"docs": 0.75, "notes": 0.25} and first["data"]["validation"] == "notes"
    assert "'training.sft' is left out: this run's phase is pretrain" in said
    assert first["precision"] == "fp16"
    assert _train(place, tmp_path / "b", *shared, "--phase", "sft", "--steps", "1") == 0
    said, second = capsys.readouterr().err, _resolved(tmp_path / "b")
    # The flag wins over the file's total_steps; the mixture of the other phase is not read.
    assert (second["phase"], second["steps"], second["batch_size"], second["precision"]) == ("sft", 1, 3, "fp32")
    assert second["data"]["mix"] is None and "'data.mix_pretrain' is left out" in said


def test_f40_a_file_for_one_phase_chooses_it(place: Path, tmp_path: Path) -> None:
    values = {"data": {"caches": {"sft_token_cache": "CACHES"}}, "training": {"sft": _PHASED["training"]["sft"]}}
    settings = load_train_settings(_phased(place, tmp_path, values))
    assert (settings.phase, settings.steps, settings.batch_size) == ("sft", 2, 3)


def test_f40_the_file_of_a_pipeline_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "pipeline.json"
    config.write_text(json.dumps({"pretrain_config_path": "a.json", "sft_config_path": "b.json"}))
    assert _train(place, tmp_path / "m", "--config", config) == 2
    assert "--config a.json" in capsys.readouterr().err


def test_f40_resolved_settings_reproduce_the_run_and_name_the_profile(place: Path, tmp_path: Path) -> None:
    flags = ["--preset", place / "small.yaml", "--data", place / "docs"]
    assert _train(place, tmp_path / "a", *flags, "--profile", "smoke", "--seed", "5") == 0
    assert _resolved(tmp_path / "a")["profile"] == "smoke-pretrain"
    (written,) = (tmp_path / "a").glob("runs/*/resolved_settings.yaml")
    # Read plainly, as `resume` does, or with the profile beneath: the same settings.
    assert load_train_settings(written) == load_settings(TrainSettings, written)
    command = ["train", "--config", written, "--data", place / "docs", "--tokenizer", place / "tok"]
    assert main([*map(str, command), "--out", str(tmp_path / "b")]) == 0
    assert _resolved(tmp_path / "b") == _resolved(tmp_path / "a")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_f41_profiles_are_listed_with_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "--device", "cpu", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {
        *(f"{name}{sft}" for name in ("dev", "prod", "minimal") for sft in ("", "-sft")),
        *("smoke-pretrain", "smoke-sft", "technical", "pipeline-dev", "pipeline-prod", "pipeline-smoke"),
    }
    for name, row in rows.items():
        assert row["parameters"] > 1e6 and row["estimated_seconds_per_million_tokens"] > 0
        assert row["estimated_seconds"] or name == "technical"  # as long as its text is
    assert rows["smoke-pretrain"]["tokens"] == 2 * 4 * 128
    assert rows["pipeline-dev"]["tokens"] == rows["dev"]["tokens"] + rows["dev-sft"]["tokens"]
    assert rows["pipeline-prod"]["phase"] == ["pretrain", "sft"]
    assert main(["profiles", "--device", "cpu"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in rows) and "estimate" in table and "smoke" in table
    assert max(map(len, table.splitlines())) <= 100


def test_f41_a_profile_lies_beneath_the_file_and_the_flags(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("batch_size: 5\nepochs: 3\nprofile: dev\n")
    settings = load_train_settings(config, {"seed": 9, "profile": "dev-sft"})
    assert (settings.batch_size, settings.epochs, settings.steps, settings.seed) == (5, 3, None, 9)
    assert (settings.phase, settings.sequence_length, settings.profile) == ("sft", 512, "dev-sft")
    assert load_train_settings(config).phase == "pretrain"


@pytest.mark.parametrize("profile", ["smoke", "smoke-sft"])
def test_f41_smoke_takes_seconds(place: Path, tmp_path: Path, profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    data = place / ("talk.jsonl" if profile == "smoke-sft" else "docs")
    assert main(["train", "--profile", profile, "--data", str(data), "--out", str(tmp_path / "m"), "--json"]) == 0
    assert time.perf_counter() - began < 30
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert (tmp_path / "m/model.safetensors").is_file()


def test_f41_an_unknown_profile_and_a_pipeline_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, message in (
        (["--profile", "smok"], "unknown profile 'smok'. Did you mean 'smoke'?"),
        (["--profile", "pipeline-dev"], "--profile dev"),
    ):
        assert _train(place, tmp_path / "m", "--data", place / "docs", *flags) == 2
        assert message in capsys.readouterr().err
    config = tmp_path / "a.yaml"
    config.write_text("seed: 1\nprofile: prodd\n")
    assert _train(place, tmp_path / "m", "--data", place / "docs", "--config", config) == 2
    assert f"{config}:2: unknown profile 'prodd'" in capsys.readouterr().err


def test_every_profile_is_whole() -> None:
    known = {profile.name for profile in list_profiles()}
    for profile in list_profiles():
        assert profile.description
        if profile.stages:
            assert set(profile.stages) <= known
        else:
            assert profile.settings().profile == profile.name
