"""What wins on the gate; a source that leaves no trace; and how far lessons stay behind joint training."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import pydoc_data.topics as topics
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from driving import done, refused, said
from lifelong.cli.app import main
from lifelong.learn.held import read_slices
from lifelong.model.store import ModelStore
from lifelong.train.folder import RunFolder

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 48, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
SMALL: list[object] = ["--batch-size", 8, "--max-bytes", 8000, "--threads", 1, "--sequence-length", 32]
QUICK: list[object] = [*SMALL, "--steps", 12, "--learning-rate", 0.01]
WILD: list[object] = [*SMALL, "--steps", 30, "--learning-rate", 0.02, "--replay-share", 0.1, "--no-use-ewc"]
# A rate at which neither way teaches anything.
BAD: list[object] = [*SMALL, "--steps", 3, "--learning-rate", 3, "--replay-share", 0, "--no-use-ewc"]
MARK = "Quincemarmalade"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and a model that was trained on the first of them."""
    place = tmp_path_factory.mktemp("gate")
    pages = [text for _, text in sorted(topics.topics.items())]
    (place / "manual.txt").write_text("\n\n\n".join(pages)[:120_000], encoding="utf-8")
    (place / "code.txt").write_text(inspect.getsource(argparse), encoding="utf-8")
    sea = [f"Line {n}: the sea is {n} miles wide, and {n + 1} deep. {MARK} glows at dusk." for n in range(500)]
    (place / "sea.txt").write_text("\n\n".join(sea))
    hills = [f"Row {n}: the hill is {n} feet high, said the map of {n + 3}." for n in range(500)]
    (place / "hills.txt").write_text("\n\n".join(hills))
    (place / "preset.yaml").write_text(PRESET)
    done("tokenizer", "train", place / "manual.txt", "--vocab-size", 600, "--out", place / "tok")
    plain = ["--evaluation.max-bytes", 8000, "--tracking.no-plots", "--tracking.no-tensorboard", "--threads", 1]
    shape = ["--tokenizer", place / "tok", "--preset", place / "preset.yaml", "--sequence-length", 64]
    size = ["--steps", 150, "--batch-size", 16, "--domain", "manual"]
    done("train", "--data", place / "manual.txt", *shape, *size, *plain, "--out", place / "base")
    return place


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "base", tmp_path / "model")
    return tmp_path / "model"


def test_f07_where_the_gate_undoes_all_weights_an_adapter_is_tried_and_kept(
    place: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = digest(model / "model.safetensors")
    shutil.copytree(model, tmp_path / "plain")
    lesson = [place / "code.txt", "--domain", "code", *WILD]
    capsys.readouterr()
    done("learn", model, *lesson, "--json")
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "an adapter is tried on the same text" in err
    assert "The gate undid all weights" in err
    assert found["accepted"] and found["mode"] == "adapter" and found["undone"]["mode"] == "full"
    assert any("forgotten" in reason for reason in found["undone"]["reasons"])
    start, end = found["matrix"]["bpb"]
    assert end[1] < start[1] - 0.1  # bits per byte of the new domain's test text fall
    assert end[0] < start[0] * 1.01  # and those of the old are kept, as the model answers by itself
    assert digest(model / "model.safetensors") == weights
    runs = [RunFolder(folder).facts for folder in sorted((model / "runs").glob("*-learn-*"))]
    assert [(facts["status"], facts["mode"], facts["accepted"]) for facts in runs] == [
        ("finished", "full", False),
        ("finished", "adapter", True),
    ]
    record = json.loads((model / "lifelong/sessions/0001-code.json").read_text())
    assert record["undone"]["run"] == "runs/0002-learn-code" and record["run"] == "runs/0003-learn-code-adapter"
    assert record["settings"]["mode"] == "auto"
    # It is the adapter that --mode adapter makes, to the bit; and that costs less.
    done("learn", tmp_path / "plain", *lesson, "--mode", "adapter")
    name = "lifelong/adapters/code/adapter_model.safetensors"
    assert digest(model / name) == digest(tmp_path / "plain" / name)
    alone = json.loads((tmp_path / "plain/lifelong/sessions/0001-code.json").read_text())
    assert record["flops"] > alone["flops"] and alone["undone"] is None
    capsys.readouterr()
    done("history", model)
    assert "kept, in an adapter: all weights were undone" in " ".join(capsys.readouterr().out.split())
    event = said(capsys, "history", model)["events"][-1]
    assert event["undone"]["reasons"] == found["undone"]["reasons"]


def test_f07_where_all_weights_go_a_part_of_their_way_the_better_of_two_ways_is_kept(
    place: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("other", "full"):
        shutil.copytree(model, tmp_path / name)
    lesson = [place / "code.txt", "--domain", "code", *SMALL, "--steps", 30, "--learning-rate", 0.008]
    lesson += ["--replay-share", 0.1, "--no-use-ewc"]
    found = said(capsys, "learn", model, *lesson)
    other = found["undone"]
    assert found["mode"] == "adapter" and other["passed"] and 0 < other["scale"] < 1
    assert found["gate"]["code"]["after"] < other["gate"]["code"]["after"]
    assert "in an adapter: all weights taught less" in _history(model, capsys)
    # An adapter of rank 1 learns less: it goes, and the weights are those of all weights alone, to the bit.
    capsys.readouterr()
    done("learn", tmp_path / "other", *lesson, "--lora-rank", 1)
    out = capsys.readouterr().out
    assert "Lesson 1 (code) kept." in out and "An adapter was tried as well, and taught less:" in out
    assert ModelStore.open(tmp_path / "other").adapters() == []
    done("learn", tmp_path / "full", *lesson, "--mode", "full")
    weights = [digest(tmp_path / name / "model.safetensors") for name in ("other", "full")]
    assert weights[0] == weights[1] != digest(place / "base/model.safetensors")
    assert "; an adapter taught less" in _history(tmp_path / "other", capsys)
    runs = [RunFolder(folder).facts for folder in sorted((tmp_path / "other/runs").glob("*-learn-*"))]
    assert [(facts["mode"], facts["accepted"]) for facts in runs] == [("full", True), ("adapter", False)]
    done("report", tmp_path / "other", "--out", tmp_path / "page.html")
    assert "not kept, an adapter: " in (tmp_path / "page.html").read_text()


def test_of_a_text_too_small_to_measure_the_way_that_moves_no_weights_is_kept(
    place: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.txt").write_text((place / "code.txt").read_text()[:3000])
    lesson = ["learn", model, tmp_path / "small.txt", "--domain", "code", *SMALL, "--steps", 30]
    found = said(capsys, *lesson, "--learning-rate", 0.0025, "--replay-share", 0.1, "--no-use-ewc")
    assert found["accepted"] and found["mode"] == "adapter" and "code" not in found["gate"]
    assert found["undone"]["passed"] and 0 < found["undone"]["scale"] < 1
    assert "unmeasured" in _history(model, capsys)


@pytest.mark.slow
def test_an_adapter_is_tried_only_where_the_choice_was_left_open(
    place: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = ["learn", model, place / "code.txt", "--domain", "code", *BAD]
    given = said(capsys, *none, "--mode", "full")
    assert not given["accepted"] and given["undone"] is None
    capsys.readouterr()
    done(*none)
    out = capsys.readouterr().out
    assert "Lesson 2 (code) undone" in out and "First all weights were taught, and undone:" in out
    assert out.count("not learned beyond noise") == 2
    assert "undone, all weights and an adapter" in _history(model, capsys)
    accepted = said(capsys, *none, "--accept")
    assert accepted["mode"] == "full" and accepted["undone"] is None


def test_an_adapter_that_cannot_be_had_is_said_beforehand(
    place: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = ["learn", model, place / "code.txt", "--domain", "base", *BAD]
    capsys.readouterr()
    done(*lesson, "--json")
    out, err = capsys.readouterr()
    assert "no adapter is tried: 'base' cannot be an adapter's name" in err
    assert json.loads(out)["undone"] is None


def _history(model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    done("history", model)
    return " ".join(capsys.readouterr().out.split())


def test_an_interruption_between_the_two_ways_changes_nothing(
    place: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, before = RunFolder.log, ModelStore(model).files()

    def interrupt(self: RunFolder, row: dict[str, Any]) -> None:
        log(self, row)
        if self.path.name.endswith("-adapter"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "log", interrupt)
    lesson = ["learn", model, place / "code.txt", "--domain", "code", *BAD]
    assert main([str(argument) for argument in lesson]) == 130
    assert ModelStore(model).files() == before and ModelStore(model).damage() == []
    runs = [RunFolder(folder).facts["status"] for folder in sorted((model / "runs").glob("*-learn-*"))]
    assert runs == ["finished", "interrupted"]


def holding(root: Path, mark: str) -> list[str]:
    """The files of a directory that hold a word."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return [path.relative_to(root).as_posix() for path in files if mark.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def two(place: Path) -> Path:
    """The model after two lessons in adapters, the second of which replays the first."""
    shutil.copytree(place / "base", place / "two")
    for domain in ("sea", "hills"):
        done(
            "learn", place / "two", place / f"{domain}.txt", "--domain", domain, *QUICK, "--mode", "adapter", "--accept"
        )
    return place / "two"


def test_f08_a_purged_source_leaves_no_byte_of_its_text(
    place: Path, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, sea = tmp_path / "model", place / "sea.txt"
    shutil.copytree(two, model)
    assert holding(model, MARK) and list(model.glob("runs/*/cache"))
    figures = said(capsys, "matrix", model)
    gone = said(capsys, "forget", model, "--source", sea)
    assert any("--purge" in line for line in gone["stays"]) and holding(model, MARK)  # that alone leaves a lot
    gone = said(capsys, "forget", model, "--source", sea, "--purge")
    assert gone["held_out"] > 0 and gone["freed_bytes"] > 10_000
    assert holding(model, MARK) == [] and not list(model.glob("runs/*/cache"))
    store = ModelStore.open(model)
    assert store.damage() == [] and store.adapters() == ["hills"]
    found = said(capsys, "matrix", model)
    assert found["bpb"] == figures["bpb"] and "test documents were purged" in found["notes"]["sea"]
    assert "were purged" in _shown(capsys, "matrix", model)
    assert "examples of" in _history(model, capsys) and "earlier states purged" in _history(model, capsys)
    assert "was purged when a source was forgotten" in refused(capsys, "rollback", model)
    # Its text is new again: taught once more, it gets new slices, and the note stays.
    done("learn", model, sea, "--domain", "sea", *QUICK, "--mode", "adapter", "--accept")
    found = said(capsys, "matrix", model)
    assert found["bpb"][-1][1] is not None and "sea" in found["notes"]
    done("rollback", model)  # what came after the purge can be undone


def test_f08_a_purged_source_of_a_training_takes_the_runs_models_with_it(
    place: Path, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(two, model)
    page = (place / "manual.txt").read_text(encoding="utf-8").split("\n\n\n")[0]
    word = max(re.findall(r"[A-Za-z ]{12,}", page), key=len)
    assert any(name.startswith("runs/0001") for name in holding(model, word))
    out = _shown(capsys, "forget", model, "--source", place / "manual.txt", "--purge")
    assert "only training anew without it undoes that" in out and "nothing before this can be rolled back to" in out
    assert "The model runs/0001-pretrain/" in out
    assert holding(model, word) == [] and holding(model, MARK)
    done("generate", model, "--prompt", "The", "--max-tokens", 2)
    assert ModelStore.open(model).damage() == []
    assert "nothing of 'nowhere.txt' is known" in refused(capsys, "forget", model, "--source", "nowhere.txt", "--purge")


def _shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    done(*arguments)
    return capsys.readouterr().out


def test_a_purge_that_is_cut_off_is_finished_by_the_next_command(
    place: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(two, model)
    mirror = ModelStore._mirror

    def killed(self: ModelStore) -> None:  # the switch is made, and nothing after it
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelStore, "_mirror", killed)
    with pytest.raises(KeyboardInterrupt):
        from lifelong.learn.forgetting import forget

        forget(model, str(place / "sea.txt"), purge=True)
    monkeypatch.setattr(ModelStore, "_mirror", mirror)
    assert holding(model, MARK)
    refused(capsys, "rollback", model)
    assert holding(model, MARK) == [] and ModelStore.open(model).damage() == []
    assert ModelStore.open(model).adapters() == ["hills"]


def test_f12_intransigence_is_measured_against_a_joint_model(
    place: Path, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = said(capsys, "matrix", two)
    # With the base in the joint model's place, its row is the one before any lesson, to the last digit that is kept.
    found = said(capsys, "matrix", two, "--joint", place / "base", "--png", tmp_path / "m.png")
    start = [next(row[j] for row in own["bpb"] if row[j] is not None) for j in range(3)]
    assert found["bpb"] == own["bpb"] and "joint" not in own
    assert found["joint"][:2] == pytest.approx(start[:2], abs=1e-6)
    last = own["bpb"][-1]
    for j, domain in enumerate(own["domains"]):
        assert found["intransigence"][domain]["end"] == pytest.approx(last[j] - found["joint"][j])
    assert found["intransigence"]["manual"]["taught"] is None
    assert found["intransigence"]["sea"]["taught"] < -0.1  # the base was never taught the sea: it is no joint model
    assert (tmp_path / "m.png").stat().st_size > 10_000
    out = _shown(capsys, "matrix", two, "--joint", place / "base")
    assert "joint model" in out and "intransigence" in out
    # A reference that has seen the test text is too good, and that is said.
    shutil.copytree(place / "base", tmp_path / "leak")
    (tmp_path / "leak.txt").write_text(read_slices(two, ["sea"], "test")["sea"][0].text)
    done("learn", tmp_path / "leak", tmp_path / "leak.txt", "--domain", "leak", *SMALL, "--steps", 1, "--accept")
    capsys.readouterr()
    done("matrix", two, "--joint", tmp_path / "leak")
    assert "trained on 1 of" in capsys.readouterr().err
    assert "no lesson yet" in refused(capsys, "matrix", place / "base", "--joint", two)
    assert "no such model directory" in refused(capsys, "matrix", two, "--joint", tmp_path / "nowhere")
