"""Training through its public functions: it learns, it resumes exactly, and it refuses what cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong.errors import Interrupted, LifelongError
from lifelong.evaluate.baselines import baselines
from lifelong.evaluate.bits import score
from lifelong.files import sha256_file
from lifelong.model.directory import load_model
from lifelong.model.store import ModelStore
from lifelong.settings.load import load_settings
from lifelong.settings.train import TrainSettings
from lifelong.text import open_corpus
from lifelong.train.folder import RunFolder
from lifelong.train.optim import NEW_EMBEDDINGS
from lifelong.train.run import resume, train


def weights(out: Path) -> str:
    return sha256_file(out / "model.safetensors")


def test_f05_a_model_trained_from_text_beats_the_unigram_on_held_out_text(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    longer = settings.model_copy(update={"steps": 150, "batch_size": 16})
    result = train([str(text_file)], tmp_path / "m", longer, tokenizer=tokenizer_dir)
    corpus = open_corpus([str(text_file)])
    model, tokenizer = load_model(tmp_path / "m")
    simple = baselines(corpus.train, corpus.test, tokenizer)
    held_out = score(model, tokenizer, corpus.test)
    assert result.before and result.after
    assert result.after.bits_per_byte < 0.8 * result.before.bits_per_byte
    assert held_out.bits_per_byte < 0.95 * simple["unigram"]


def test_the_same_settings_give_the_same_weights_and_a_run_is_reproduced_by_its_resolved_settings(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    first = train([str(text_file)], tmp_path / "a", settings, tokenizer=tokenizer_dir)
    again = load_settings(TrainSettings, first.run / "resolved_settings.yaml")
    resolved = settings.optimizer.model_copy(update={"embedding_scale": NEW_EMBEDDINGS, "learning_rate": 3e-3})
    assert again == settings.model_copy(update={"optimizer": resolved})
    train([str(text_file)], tmp_path / "b", again, tokenizer=tokenizer_dir)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("stop_at", [1, 7])
def test_an_interrupted_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    stop_at: int,
    text_file: Path,
    tokenizer_dir: Path,
    settings: TrainSettings,
    tmp_path: Path,
    interrupted_at: Any,
) -> None:
    settings = settings.model_copy(update={"gradient_accumulation_steps": 2})
    whole = train([str(text_file)], tmp_path / "whole", settings, tokenizer=tokenizer_dir)
    with interrupted_at(stop_at):
        with pytest.raises(Interrupted, match="lifelong resume") as caught:
            train([str(text_file)], tmp_path / "cut", settings, tokenizer=tokenizer_dir)
        assert caught.value.exit_code == 130
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    result = resume(tmp_path / "cut")
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    same = ("step", "loss", "grad_norm", "lr", "tokens")
    rows = [[{k: row[k] for k in same} for row in RunFolder(run).metrics()] for run in (whole.run, result.run)]
    assert rows[0] == rows[1]
    with pytest.raises(LifelongError, match="this run has ended"):
        resume(tmp_path / "cut")


def test_a_damaged_checkpoint_is_passed_over_loudly(
    text_file: Path,
    tokenizer_dir: Path,
    settings: TrainSettings,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with interrupted_at(6):
        often = settings.model_copy(
            update={"checkpoint": settings.checkpoint.model_copy(update={"every_minutes": 1e-6})}
        )
        with pytest.raises(Interrupted):
            train([str(text_file)], tmp_path / "m", often, tokenizer=tokenizer_dir)
    checkpoints = sorted((tmp_path / "m").glob("runs/*/checkpoints/step-*"))
    assert [path.name for path in checkpoints] == ["step-00000005", "step-00000006"]
    data = bytearray((checkpoints[-1] / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (checkpoints[-1] / "model.safetensors").write_bytes(data)
    resume(tmp_path / "m")
    said = capsys.readouterr().err
    assert "step-00000006 is damaged" in said and "Going on at step 5" in said


def test_training_further_continues_from_the_model_and_keeps_its_history(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    first = train([str(text_file)], tmp_path / "m", settings, tokenizer=tokenizer_dir)
    second = train([str(text_file)], tmp_path / "m", settings)
    assert first.after and second.before
    assert second.before.bits_per_byte == pytest.approx(first.after.bits_per_byte)
    assert [event["event"] for event in ModelStore.open(tmp_path / "m").history()] == ["train", "train"]
    assert ModelStore.open(tmp_path / "m").damage() == []


def test_accumulated_batches_give_the_gradient_of_one_big_batch(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    shape = {"steps": 4, "evaluation": settings.evaluation}
    big = settings.model_copy(update={**shape, "batch_size": 8})
    parts = settings.model_copy(update={**shape, "batch_size": 2, "gradient_accumulation_steps": 4})
    runs = [
        train([str(text_file)], tmp_path / name, choice, tokenizer=tokenizer_dir).run
        for name, choice in (("big", big), ("parts", parts))
    ]
    rows = [RunFolder(run).metrics() for run in runs]
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_a_loss_that_is_no_number_never_reaches_the_weights(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    wild = settings.model_copy(
        update={"steps": 60, "optimizer": settings.optimizer.model_copy(update={"learning_rate": 1e25})}
    )
    with pytest.raises(LifelongError, match="not a number") as caught:
        train([str(text_file)], tmp_path / "m", wild, tokenizer=tokenizer_dir)
    assert "learning-rate" in str(caught.value)
    assert not (tmp_path / "m" / "model.safetensors").exists()


def test_too_little_text_for_a_batch_is_said(tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("A short text, too short for anything.")
    with pytest.raises(LifelongError, match="less text than one"):
        train([str(tmp_path / "short.txt")], tmp_path / "m", settings, tokenizer=tokenizer_dir)


def test_an_output_that_is_not_a_model_is_never_overwritten(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    with pytest.raises(LifelongError, match="never overwritten"):
        train([str(text_file)], tmp_path / "m", settings, tokenizer=tokenizer_dir)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["thesis.txt"]


def test_an_unknown_preset_names_the_near_one(text_file: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="tiny"):
        train([str(text_file)], tmp_path / "m", TrainSettings(preset="tinny", steps=1), tokenizer=tokenizer_dir)


def test_a_full_disk_while_saving_is_said_and_leaves_no_model(
    text_file: Path,
    tokenizer_dir: Path,
    settings: TrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lifelong.model.weights.save_file", full)
    with pytest.raises(LifelongError, match="No space left on device"):
        train([str(text_file)], tmp_path / "m", settings, tokenizer=tokenizer_dir)
    assert not (tmp_path / "m" / "model.safetensors").exists()
    assert not list((tmp_path / "m").glob("lifelong/.staging*"))


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_directory_that_lacks_a_file_is_named(
    lacking: str, text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    train([str(text_file)], tmp_path / "m", settings.model_copy(update={"steps": 1}), tokenizer=tokenizer_dir)
    stock = tmp_path / "stock"
    shutil.copytree(tmp_path / "m", stock, ignore=shutil.ignore_patterns("lifelong", "runs"))
    (stock / lacking).unlink()
    with pytest.raises(LifelongError, match=lacking):
        load_model(stock)


def test_weights_that_do_not_fit_the_config_are_named(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    train([str(text_file)], tmp_path / "m", settings.model_copy(update={"steps": 1}), tokenizer=tokenizer_dir)
    stock = tmp_path / "stock"
    shutil.copytree(tmp_path / "m", stock, ignore=shutil.ignore_patterns("lifelong", "runs"))
    config = json.loads((stock / "config.json").read_text())
    (stock / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(LifelongError, match="has shape"):
        load_model(stock)
    (stock / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(LifelongError, match="is missing"):
        load_model(stock)
    (stock / "config.json").write_text(json.dumps(config))
    (stock / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(LifelongError, match="cannot be read"):
        load_model(stock)


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train([str(text_file)], tmp_path / "m", settings, tokenizer=tokenizer_dir, dry_run=True)
    assert result.steps == 12 and not (tmp_path / "m").exists()
    said = capsys.readouterr().err
    assert "12 steps of 4 x 32 tokens" in said and "1,536 tokens" in said and "GB of memory" in said
    assert f"  preset: {settings.preset}\n" in said and "  sequence_length: 32\n" in said


def test_measuring_a_step_changes_neither_weights_nor_random_state(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    by_steps = train([str(text_file)], tmp_path / "a", settings, tokenizer=tokenizer_dir)
    assert by_steps.steps == 12
    torch.manual_seed(123)  # what was drawn before must not matter
    train([str(text_file)], tmp_path / "b", settings, tokenizer=tokenizer_dir)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
