"""Runs that hold: bad text undone, exact resume whatever happened, full disks, changed data, evaluation only."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pydoc_data.topics as topics
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main
from lifelong.files import check_manifest, sha256_file
from lifelong.locks import writer_lock
from lifelong.train.folder import RunFolder

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 48, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
# A process that dies at a given moment of `lifelong train`.
CHILD = """\
import os, signal, sys
from lifelong.cli.app import main
from lifelong.tokens.loader import Loader
from lifelong.train import checkpoint, drive

what, at = sys.argv[1], int(sys.argv[2])
calls = {"save": 0}
batch, save, steps = Loader.batch, checkpoint.save_tensors, drive.train_steps

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted_steps(*arguments, **options):
    def killing(self, number, **more):
        if what == "batch" and number == at:
            die()
        return batch(self, number, **more)
    Loader.batch = killing
    return steps(*arguments, **options)

def killing_save(tensors, path):
    calls["save"] += 1
    save(tensors, path)
    if what == "save" and calls["save"] == at:
        with open(path, "r+b") as handle:
            handle.truncate(100)
        die()

drive.train_steps, checkpoint.save_tensors = counted_steps, killing_save
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("steady")
    pages = [text for _, text in sorted(topics.topics.items())]
    (place / "docs").mkdir()
    for number, page in enumerate(pages[:40]):
        (place / "docs" / f"{number:03d}.txt").write_text(page[:2000], encoding="utf-8")
    turns = [
        [{"role": "user", "content": f"What is {name}?"}, {"role": "assistant", "content": text[:200]}]
        for name, text in sorted(topics.topics.items())
    ]
    (place / "talk.jsonl").write_text("".join(json.dumps({"messages": item}) + "\n" for item in turns))
    (place / "preset.yaml").write_text(PRESET)
    (place / "dropout.yaml").write_text(PRESET.replace("max_seq_len: 64", "max_seq_len: 64, dropout: 0.1"))
    made = ["tokenizer", "train", place / "docs", "--vocab-size", 600, "--out", place / "tok"]
    assert main([str(word) for word in made]) == 0
    return place


def arguments(place: Path, out: Path, *more: object) -> list[str]:
    words: list[object] = ["--tokenizer", place / "tok", "--preset", place / "preset.yaml", "--sequence-length", 32]
    words = [word for word in words if str(word) not in map(str, more)] if "--preset" in more else words
    size = ["--threads", 1, "--evaluation.max-bytes", 2000, "--tracking.no-plots", "--tracking.no-tensorboard"]
    return [str(word) for word in ["train", *words, *size, "--out", out, *more]]


def weights(folder: Path) -> str:
    return sha256_file(folder / "model.safetensors")


def the_run(out: Path) -> RunFolder:
    return RunFolder.find(out)


def same_rows(one: Path, other: Path) -> bool:
    timed = ("seconds", "tokens_per_second", "memory_bytes", "mfu")
    rows = [
        [{k: v for k, v in row.items() if k not in timed} for row in the_run(out).metrics()] for out in (one, other)
    ]
    return rows[0] == rows[1]


KINDS: dict[str, list[str]] = {
    "pretrain": ["--data", "docs", "--batch-size", "8"],
    "sft": ["--data", "talk.jsonl", "--phase", "sft", "--batch-size", "4"],
    "mlm": ["--data", "docs", "--phase", "mlm", "--batch-size", "8"],
}
HOW: dict[str, list[str]] = {
    "muon": [],
    "adamw": ["--optimizer.name", "adamw"],
    "dropout": ["--dropout", "0.1"],
    "accumulation": ["--gradient-accumulation-steps", "2"],
    "stopping": ["--early-stopping-patience", "2", "--evaluation.every-steps", "3"],
    "fp16": ["--precision", "fp16"],
}


@pytest.fixture
def check_exact(place: Path, tmp_path: Path, interrupted_at: Any) -> Callable[[str, list[str], int], None]:
    def check(kind: str, how: list[str], stop: int) -> None:
        base = [str(place / word) if (place / word).exists() else word for word in KINDS[kind]]
        more = [*base, "--steps", 8, *(word for name in how for word in HOW[name])]
        assert main(arguments(place, tmp_path / "whole", *more)) == 0
        with interrupted_at(stop):
            assert main(arguments(place, tmp_path / "cut", *more)) == 130
        assert main(["resume", str(tmp_path / "cut")]) == 0
        assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
        assert same_rows(tmp_path / "whole", tmp_path / "cut")

    return check


@pytest.mark.parametrize(
    ("kind", "how", "stop"),
    [
        ("pretrain", ["dropout", "accumulation"], 1),
        ("sft", ["adamw", "dropout"], 5),
        ("mlm", ["dropout", "stopping"], 4),
    ],
)
def test_f33_a_run_interrupted_anywhere_ends_in_the_weights_of_the_uninterrupted_one(
    check_exact: Callable[[str, list[str], int], None], kind: str, how: list[str], stop: int
) -> None:
    check_exact(kind, how, stop)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 6])
@pytest.mark.parametrize(
    "how",
    [["muon"], ["adamw", "dropout"], ["accumulation", "dropout", "stopping"], ["fp16", "dropout"]],
    ids="-".join,
)
@pytest.mark.parametrize("kind", list(KINDS))
def test_exact_resume_of_every_kind_at_every_step(
    check_exact: Callable[[str, list[str], int], None], kind: str, how: list[str], stop: int
) -> None:
    check_exact(kind, how, stop)


@pytest.mark.slow
def test_f33_a_run_with_replay_is_resumed_exactly_at_the_end_of_an_epoch(
    place: Path, tmp_path: Path, interrupted_at: Any
) -> None:
    for name in ("whole", "cut"):
        out = tmp_path / name
        assert main(arguments(place, out, "--data", place / "docs", "--steps", 3, "--batch-size", 8)) == 0
        more = ["--data", place / "talk.jsonl", "--phase", "sft", "--replay", 0.3, "--batch-size", 16, "--epochs", 2]
        if name == "whole":
            assert main(arguments(place, out, *more)) == 0
            ends = [row["step"] for row in the_run(out).metrics() if row["epoch"] <= 1.0]
        else:
            with interrupted_at(max(ends)):
                assert main(arguments(place, out, *more)) == 130
            assert main(["resume", str(out)]) == 0
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert same_rows(tmp_path / "whole", tmp_path / "cut")


KILLED: list[object] = ["--batch-size", 4, "--gradient-accumulation-steps", 2, "--steps", 8, "--dropout", 0.1]
KILLED += ["--checkpoint.every-steps", 2, "--optimizer.name", "adamw"]


@pytest.mark.parametrize(
    ("what", "at"),
    # The third checkpoint's file half written; the second micro-batch of the sixth step.
    [("save", 3), pytest.param("batch", 11, marks=pytest.mark.slow)],
)
def test_f33_a_killed_run_goes_on_from_its_last_checkpoint_exactly(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, at: int
) -> None:
    more = ["--data", place / "docs", *KILLED]
    assert main(arguments(place, tmp_path / "whole", *more)) == 0
    command = [sys.executable, "-c", CHILD, what, str(at), *arguments(place, tmp_path / "cut", *more)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert bool(list(the_run(tmp_path / "cut").checkpoints.glob(".*.tmp"))) == (what == "save")
    goes_on_from_step_4(tmp_path, capsys)


def test_f33_a_full_disk_leaves_the_last_checkpoint_whole_and_the_run_goes_on_exactly(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--data", place / "docs", *KILLED]
    assert main(arguments(place, tmp_path / "whole", *more)) == 0
    log, limits = RunFolder.log, resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(self: RunFolder, row: dict[str, Any]) -> None:
        log(self, row)
        if row["step"] == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "log", filling)
        try:
            assert main(arguments(place, tmp_path / "cut", *more)) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert "could not write: File too large" in said
    assert f"Free some space, then: lifelong resume {the_run(tmp_path / 'cut').path}" in said
    goes_on_from_step_4(tmp_path, capsys)


def goes_on_from_step_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = the_run(tmp_path / "cut")
    assert [path.name for path in sorted(run.checkpoints.glob("step-*"))] == ["step-00000002", "step-00000004"]
    assert all(check_manifest(path) is None for path in run.checkpoints.glob("step-*"))
    assert main(["resume", str(tmp_path / "cut")]) == 0
    assert "Going on at step 4 of 8" in capsys.readouterr().err
    assert not list(run.path.glob("**/.*.tmp"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert same_rows(tmp_path / "whole", tmp_path / "cut")


def garbled(place: Path, folder: Path) -> Path:
    """Much of one sentence, and a page of noise."""
    source = random.Random(7)
    folder.mkdir()
    for number in range(40):
        counted = " ".join(str(number * 1000 + count) for count in range(40))
        (folder / f"plain{number:02d}.txt").write_text(counted)
    noise = "".join(chr(source.randrange(33, 126)) for _ in range(100))
    (folder / "noise.txt").write_text(noise)
    return folder


GOING_BACK = ["--batch-size", 1, "--steps", 60, "--checkpoint.every-steps", 10, "--checkpoint.keep", 1]
GOING_BACK += [
    "--health.patience",
    1,
    "--health.window",
    30,
    "--health.spike-score",
    5,
    "--gradient-accumulation-steps",
    2,
]


def test_f33_a_bad_text_is_left_out_named_and_undone_and_what_follows_is_resumed_exactly(
    place: Path,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ["--data", garbled(place, tmp_path / "text"), *GOING_BACK, "--seed", 1]
    assert main(arguments(place, tmp_path / "whole", *more)) == 0
    run = the_run(tmp_path / "whole")
    rows = run.metrics()
    bad = [row for row in rows if "skipped" in row]
    assert bad and all("the loss jumped from" in row["skipped"] for row in bad)
    first = bad[0]
    # The row with the highest loss is the one with the noise, and its file is named, in the metrics and in the log.
    places = [document["place"] for document in first["samples"][0]["documents"]]
    assert str(tmp_path / "text" / "noise.txt") in places
    assert "noise.txt" in run.log_file.read_text()
    assert first["went_back_to"] == (first["step"] - 1) // 10 * 10
    assert f"weights and optimizer are those of step {first['went_back_to']} again" in run.log_file.read_text()
    # Interrupted between the checkpoint and the bad step, and again after it: nothing changes.
    stop = first["step"] - 1
    with interrupted_at(stop):
        assert main(arguments(place, tmp_path / "cut", *more)) == 130
    with interrupted_at(first["step"] + 1):
        assert main(["resume", str(tmp_path / "cut")]) == 130
    assert main(["resume", str(tmp_path / "cut")]) == 0
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert same_rows(tmp_path / "whole", tmp_path / "cut")


def test_a_run_with_changed_data_or_settings_is_not_resumed(
    place: Path,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for path in (place / "docs").iterdir():
        (docs / path.name).write_bytes(path.read_bytes())
    with interrupted_at(2):
        assert main(arguments(place, tmp_path / "m", "--data", docs, "--batch-size", 8, "--steps", 4)) == 130
    before = (docs / "003.txt").read_text()
    (docs / "003.txt").write_text(before + "One more sentence.")
    assert main(["resume", str(tmp_path / "m")]) == 2
    said = capsys.readouterr().err
    assert f"{docs}: the data has changed since the run was begun" in said and "--base" in said
    (docs / "003.txt").write_text(before)
    resolved = the_run(tmp_path / "m").path / "resolved_settings.yaml"
    kept = resolved.read_text()
    resolved.write_text(kept.replace("seed: 0", "seed: 1"))
    assert main(["resume", str(tmp_path / "m")]) == 2
    assert "resolved_settings.yaml: the run's settings have been changed" in capsys.readouterr().err
    resolved.write_text(kept)
    # Another machine is said, and no obstacle; another process in the same place is.
    facts = the_run(tmp_path / "m").facts
    the_run(tmp_path / "m").record(machine={**facts["machine"], "torch": "2.0.0"})
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock = tmp_path / "m" / "lifelong" / ".lock"
    with writer_lock(lock.parent):
        held = json.loads(lock.read_text())
        lock.write_text(json.dumps({**held, "pid": other.pid}))
        assert main(["resume", str(tmp_path / "m")]) == 2
        assert f"another process is writing here (pid {other.pid}" in capsys.readouterr().err
    other.communicate()
    assert main(["resume", str(tmp_path / "m")]) == 0
    assert "torch was 2.0.0 when the run was begun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rate", "said"),
    [("1e3", "steps: a learning rate of 1000 is likely too high"), ("1e-12", "1e-12 teaches next to nothing")],
)
def test_a_rate_at_which_nothing_is_learned_is_said_by_the_first_steps(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: str, said: str
) -> None:
    main(
        arguments(
            place, tmp_path / "m", "--data", place / "docs", "--batch-size", 8, "--steps", 20, "--learning-rate", rate
        )
    )
    assert said in capsys.readouterr().err


def test_held_out_text_shorter_than_a_row_is_measured(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text(f"Number {number} is a short text, {number * number} its square.")
    more = ["--data", tmp_path / "*.txt", "--batch-size", 2, "--steps", 2, "--json"]
    assert main(arguments(place, tmp_path / "m", *more)) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["after"]["tokens"] < 200 and result["after"]["bits_per_byte"] > 0


@pytest.fixture(scope="module")
def trained(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best weights are not its last: no later measure counts as better than the first, at step 10."""
    out = tmp_path_factory.mktemp("trained") / "m"
    more = ["--data", place / "docs", "--batch-size", 8, "--steps", 40, "--evaluation.every-steps", 10]
    assert main(arguments(place, out, *more, "--early-stopping-min-delta", 100)) == 0
    return out


def evaluated(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([str(word) for word in [*words, "--json"]]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_f33_evaluation_only_measures_the_best_checkpoint_on_the_test_split(
    trained: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(trained)
    best = run.facts["best_step"]
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    result = evaluated(capsys, "evaluate", run.path, "--split", "test")
    assert best == 10 and result["split"] == "test" and result["tokens"] > 100
    assert result["loss"] == pytest.approx(evaluated(capsys, "evaluate", run.path / "best")["loss"])
    assert result["loss"] != pytest.approx(evaluated(capsys, "evaluate", run.path / "final")["loss"])
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    assert 0 < result["token_accuracy"] < 1
    # As the guide has it: the trainer's own command, with --eval-only.
    again = evaluated(capsys, *arguments(place, trained, "--eval-only", "--resume", run.path / "best"))
    assert again["split"] == "test" and again["tokens"] > 0
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()} == before
    assert main(arguments(place, trained, "--resume", run.path)) == 2
    assert f"lifelong resume {run.path}" in capsys.readouterr().err


def test_f35_prompts_are_answered_one_after_another_by_the_best_checkpoint_of_a_run(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(trained)
    greedy = ["--temperature", "0", "--max-tokens", "8"]
    alone = {}
    for name in ("best", "final"):
        for prompt in ("The with statement", "A class"):
            result = evaluated(capsys, "generate", run.path / name, "--prompt", prompt, *greedy)
            alone[name, prompt] = prompt + result["texts"][0]
    monkeypatch.setattr("sys.stdin", io.StringIO("The with statement\nA class\n\n"))
    assert main(["generate", str(run.path), "--interactive", *greedy]) == 0
    shown, _ = capsys.readouterr()
    assert shown == alone["best", "The with statement"] + "\n" + alone["best", "A class"] + "\n"
    assert shown != alone["final", "The with statement"] + "\n" + alone["final", "A class"] + "\n"


@pytest.mark.slow
def test_f31_weights_and_biases_and_trackio_by_setting_without_a_network(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    config = tmp_path / "monitoring.yaml"
    config.write_text("monitoring:\n  wandb: {enabled: true, project: trial}\n  trackio: {enabled: true}\n")
    more = ["--data", place / "docs", "--batch-size", 8, "--steps", 3, "--config", config]
    # A process of its own: both libraries read where they write to when they are first imported.
    code = "import sys; from lifelong.cli.app import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments(place, tmp_path / "m", *more)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (record,) = the_run(tmp_path / "m").path.glob("wandb/offline-run-*/run-*.wandb")
    found = record.read_bytes()
    for name in (b"loss/train", b"loss/held_out", b"learning_rate", b"grad_norm", b"mfu", b"memory_bytes"):
        assert name in found
    (database,) = (tmp_path / "trackio").glob("lifelong*.db")
    with contextlib.closing(sqlite3.connect(database)) as rows:
        steps = [json.loads(row[0]) for row in rows.execute("SELECT metrics FROM metrics ORDER BY step")]
    logged = the_run(tmp_path / "m").metrics()
    assert [row["loss/train"] for row in steps] == [row["loss"] for row in logged]
    assert steps[-1]["loss/held_out"] == logged[-1]["gate_loss"]


def test_f31_a_tracker_that_is_not_installed_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lifelong.train.board._installed", lambda package: False)
    more = ["--data", place / "docs", "--batch-size", 8, "--steps", 1, "--tracking.wandb.enabled"]
    assert main(arguments(place, tmp_path / "m", *more)) == 2
    said = capsys.readouterr().err
    assert "tracking.wandb: Weights & Biases is not installed" in said and "pip install wandb" in said
    assert not (tmp_path / "m").exists()  # said before anything is done
