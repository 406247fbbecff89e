"""Several processes that train one model, through the command line."""

from __future__ import annotations

import json
import os
import pydoc_data.topics as topics
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lifelong.cli.app import main
from lifelong.train.folder import RunFolder

_PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 48, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
# Sums of gradients in another order differ by rounding; that grows over a run's steps.
_LOSS, _NORM, _WEIGHT = 1e-5, 1e-4, 1e-3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a tokenizer of it and a preset."""
    place = tmp_path_factory.mktemp("several")
    text = "\n\n\n".join(text for _, text in sorted(topics.topics.items()))
    (place / "topics.txt").write_text(text, encoding="utf-8")
    (place / "small.yaml").write_text(_PRESET)
    assert (
        main(["tokenizer", "train", str(place / "topics.txt"), "--vocab-size", "600", "--out", str(place / "t")]) == 0
    )
    return place


def arguments(place: Path, out: Path, *flags: object) -> list[str]:
    # Five rows for each pass: they do not come out even among two or four processes.
    own: dict[object, object] = {"--data": place / "topics.txt", "--tokenizer": place / "t"}
    own |= {"--preset": place / "small.yaml", "--batch-size": 5, "--gradient-accumulation-steps": 2, "--steps": 8}
    own |= {"--sequence-length": 32, "--evaluation.max-bytes": 4000, "--evaluation.every-steps": 4}
    own |= {"--threads": 1, "--device": "cpu", "--compile": "off", "--out": out}
    kept = [part for flag, value in own.items() if flag not in flags for part in (flag, value)]
    return ["train", *map(str, [*kept, *flags])]


def rows(out: Path) -> list[dict[str, Any]]:
    return RunFolder.find(out).metrics()


def same(one: Path, other: Path) -> None:
    """Check that two runs took the same steps and ended in the same weights, within the tolerance of rounding."""
    first, second = rows(one), rows(other)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for a, b in zip(first, second, strict=True):
        assert a["tokens"] == b["tokens"] and a["lr"] == b["lr"]
        assert b["loss"] == pytest.approx(a["loss"], rel=_LOSS)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=_NORM)
        assert b.get("gate_loss", 0.0) == pytest.approx(a.get("gate_loss", 0.0), rel=_LOSS)
    mine, theirs = (load_file(out / "model.safetensors") for out in (one, other))
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        torch.testing.assert_close(theirs[name], weight, rtol=0, atol=_WEIGHT * float(weight.abs().max()))


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """The run of one process."""
    out = place / "alone"
    assert main(arguments(place, out)) == 0
    return out


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_f36_two_processes_learn_what_one_does(
    strategy: str, place: Path, alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--nproc", 2, "--distributed.strategy", strategy, "--json"]
    assert main(arguments(place, tmp_path / "m", *flags)) == 0
    said = capfd.readouterr()
    result = json.loads(said.out)
    assert result["after"]["bits_per_byte"] < result["before"]["bits_per_byte"]
    assert said.err.count("2 processes") == 1 and said.err.count("Learning rate") == 1  # one of them speaks
    same(alone, tmp_path / "m")
    run = RunFolder.find(tmp_path / "m")
    assert run.facts["processes"] == 2 and run.facts["status"] == "finished"
    assert [path.name for path in (tmp_path / "m" / "runs").iterdir()] == ["0001-pretrain"]


@pytest.mark.slow
def test_f36_an_interrupted_run_goes_on_with_as_many_processes_bit_for_bit_and_with_one_but_for_rounding(
    place: Path,
    alone: Path,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, cut, other = (tmp_path / name for name in ("whole", "cut", "other"))
    assert main(arguments(place, whole, "--nproc", 2)) == 0
    with interrupted_at(3):
        assert main(arguments(place, cut, "--nproc", 2)) == 130
    assert "interrupted at step 3 of 8; everything is saved" in capsys.readouterr().err
    shutil.copytree(cut, other)
    assert main(["resume", str(cut)]) == 0
    assert RunFolder.find(cut).facts["processes"] == 2
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    exact = ("step", "loss", "grad_norm", "lr", "tokens")
    assert [[row[key] for key in exact] for row in rows(cut)] == [[row[key] for key in exact] for row in rows(whole)]
    assert main(["resume", str(other), "--nproc", "1"]) == 0
    assert "1 processes go on with what 2 began" in capsys.readouterr().err
    same(alone, other)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize(("before", "after"), [(4, 4), (4, 1), (1, 4), (2, 4)])
def test_f36_four_processes_go_on_with_what_others_began(
    strategy: str,
    before: int,
    after: int,
    place: Path,
    alone: Path,
    tmp_path: Path,
    interrupted_at: Any,
) -> None:
    flags = ["--nproc", before, "--distributed.strategy", strategy]
    with interrupted_at(5):
        assert main(arguments(place, tmp_path / "cut", *flags)) == 130
    assert main(["resume", str(tmp_path / "cut"), "--nproc", str(after)]) == 0
    same(alone, tmp_path / "cut")
    if before == after:
        assert main(arguments(place, tmp_path / "whole", *flags)) == 0
        cut, whole = (tmp_path / name / "model.safetensors" for name in ("cut", "whole"))
        assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("phase", ["sft", "mlm"])
def test_f36_every_phase_under_two_processes(strategy: str, phase: str, place: Path, tmp_path: Path) -> None:
    turns = [
        {"messages": [{"role": "user", "content": name}, {"role": "assistant", "content": text[: 20 + 7 * number]}]}
        for number, (name, text) in enumerate(sorted(topics.topics.items()))
    ]
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    for out, flags in ((tmp_path / "one", []), (tmp_path / "two", ["--nproc", 2, "--distributed.strategy", strategy])):
        data = ["--data", chats] if phase == "sft" else []
        assert main(arguments(place, out, "--phase", phase, *data, *flags)) == 0
    same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_f36_torchrun_starts_the_processes(strategy: str, place: Path, alone: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "lifelong.cli.app"]
    done = subprocess.run(
        [*command, *arguments(place, tmp_path / "m", "--distributed.strategy", strategy)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    same(alone, tmp_path / "m")


def wait_for(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return found


def start(place: Path, out: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a long run of two processes, and return it and the pid of its second process, once it has taken steps."""
    command = [sys.executable, "-m", "lifelong.cli.app", *arguments(place, out, "--nproc", 2, "--steps", 100_000)]
    leader = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_for(lambda: next(out.glob("runs/*/metrics.jsonl"), None) or leader.poll() is not None)
    children = Path(f"/proc/{leader.pid}/task/{leader.pid}/children").read_text().split()
    assert len(children) == 1, leader.stderr.read() if leader.stderr and leader.poll() is not None else ""
    return leader, int(children[0])


def gone(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
@pytest.mark.slow
def test_f36_a_process_that_dies_ends_the_run_with_one_message(place: Path, tmp_path: Path) -> None:
    leader, follower = start(place, tmp_path / "m")
    os.kill(follower, signal.SIGKILL)
    _, said = leader.communicate(timeout=120)
    assert leader.returncode == 2
    assert "process 1 of 2 was ended by signal 9" in said and "Traceback" not in said
    assert not (tmp_path / "m" / "lifelong" / ".lock").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_f36_no_process_outlives_the_first(place: Path, tmp_path: Path) -> None:
    leader, follower = start(place, tmp_path / "m")
    leader.kill()
    leader.communicate()
    wait_for(lambda: gone(follower))


def test_f36_more_processes_than_rows_are_refused(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--nproc", 2, "--batch-size", 1, "--gradient-accumulation-steps", 1]
    assert main(arguments(place, tmp_path / "m", *flags)) == 2
    said = capfd.readouterr().err
    assert "a step has 1 rows, fewer than there are processes (2)" in said and "Traceback" not in said


@pytest.mark.slow
def test_f36_a_rehearsal_names_the_processes(place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, tmp_path / "m", "--nproc", 2, "--dry-run")) == 0
    said = capfd.readouterr().err
    assert "2 processes, each with the whole model" in said and "in each of 2 processes" in said
    assert not (tmp_path / "m").exists()


def test_f36_settings_of_several_gpus_are_read_and_said_where_there_is_none(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gpus.yaml"
    config.write_text("hardware:\n  distributed: true\n  gpu_ids: [0, 1, 2, 3]\n  backend: nccl\n")
    assert main(arguments(place, tmp_path / "m", "--config", config, "--steps", 2)) == 0
    assert "there is no GPU to train on, so one process trains" in capfd.readouterr().err
    resolved = (RunFolder.find(tmp_path / "m").path / "resolved_settings.yaml").read_text()
    assert "backend: nccl" in resolved and "enabled: true" in resolved
