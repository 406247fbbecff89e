"""Lessons that hold: what session 1 taught is there after session 3, and whatever happens leaves a whole state."""

from __future__ import annotations

import _pydecimal
import argparse
import ast
import difflib
import inspect
import json
import math
import os
import pydoc_data.topics as topics
import random
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driving import done, refused, said, visible, words
from lifelong.cli.app import main
from lifelong.evaluate.bits import score
from lifelong.evaluate.routing import bound_bits
from lifelong.learn.held import read_slices
from lifelong.model.directory import load_model
from lifelong.model.store import ModelStore
from lifelong.train.folder import RunFolder

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 48, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
SMALL: list[object] = ["--batch-size", 4, "--max-bytes", 8000, "--threads", 1, "--sequence-length", 32]
QUICK: list[object] = [*SMALL, "--mode", "adapter", "--steps", 12, "--learning-rate", 0.01]
NAIVE: list[object] = ["--mode", "full", "--replay-share", 0, "--no-use-ewc", "--accept"]
# A process that dies, or stops, at a given moment of `lifelong learn`.
CHILD = """\
import os, signal, sys
from lifelong.cli.app import main
from lifelong.learn import session, teaching
from lifelong.model.store import ModelStore
from lifelong.train.folder import RunFolder

moment, name = sys.argv[1], sys.argv[2]

def hit():
    os.kill(os.getpid(), getattr(signal, name))

def before(owner, attribute, when=lambda *arguments: True):
    original = getattr(owner, attribute)
    def changed(*arguments, **options):
        if when(*arguments):
            hit()
        return original(*arguments, **options)
    setattr(owner, attribute, changed)

if moment == "training":
    before(RunFolder, "log", lambda run, row: row["step"] == 3)
elif moment == "measuring":
    before(session, "extend_matrix")
elif moment == "staged":
    before(ModelStore, "commit")
elif moment == "storing":
    before(ModelStore, "_record", lambda store, number: (store.home / ".history.tmp").exists() or number > store.head())
elif moment == "switched":
    before(ModelStore, "_mirror", lambda store: store.head() != store._mirrored())
sys.exit(main(sys.argv[3:]))
"""


def docstrings() -> Iterator[str]:
    """What modules say about their classes, methods and functions."""
    for module in (statistics, random, _pydecimal, difflib, typing):
        own = {name: item for name, item in sorted(vars(module).items()) if _is_of(item, module)}
        for name, item in own.items():
            yield f"{name}\n{inspect.getdoc(item)}"
            for method, function in sorted(vars(item).items()) if inspect.isclass(item) else []:
                if inspect.isfunction(function) and function.__doc__:
                    yield f"{name}.{method}\n{inspect.getdoc(function)}"


def _is_of(item: object, module: object) -> bool:
    home = getattr(item, "__module__", None) == getattr(module, "__name__", "")
    return home and (inspect.isclass(item) or inspect.isfunction(item)) and bool(inspect.getdoc(item))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of several domains, and a model that was trained on the first."""
    place = tmp_path_factory.mktemp("lessons")
    pages = sorted(topics.topics.items())
    (place / "manual.txt").write_text("\n\n\n".join(text for _, text in pages)[:150_000], encoding="utf-8")
    (place / "code.txt").write_text("\n\n\n".join(inspect.getsource(item) for item in (argparse, ast)))
    (place / "docs.txt").write_text("\n\n\n".join(docstrings()))
    lines = {
        "sea": "Line {0}: the sea is {0} miles wide, and {1} deep.",
        "hills": "Row {0}: the hill is {0} feet high, said the map of {1}.",
        "law": "Article {0}. Whoever breaks article {1} pays {0} crowns to the crown.",
    }
    for name, line in lines.items():
        (place / f"{name}.txt").write_text("\n\n".join(line.format(number, number + 1) for number in range(600)))
    turns = [
        [{"role": "user", "content": f"What is {name}?"}, {"role": "assistant", "content": text[:200]}]
        for name, text in pages
    ]
    (place / "talk.jsonl").write_text("".join(json.dumps({"messages": item}) + "\n" for item in turns))
    (place / "preset.yaml").write_text(PRESET)
    done("tokenizer", "train", place / "manual.txt", "--vocab-size", 600, "--out", place / "tok")
    plain = ["--evaluation.max-bytes", 8000, "--tracking.no-plots", "--tracking.no-tensorboard", "--threads", 1]
    shape = ["--tokenizer", place / "tok", "--preset", place / "preset.yaml", "--sequence-length", 64]
    size = ["--steps", 200, "--batch-size", 16, "--domain", "manual"]
    done("train", "--data", place / "manual.txt", *shape, *size, *plain, "--out", place / "base")
    return place


@pytest.fixture(scope="module")
def four(place: Path) -> Path:
    """The model after four lessons, one adapter each."""
    shutil.copytree(place / "base", place / "four")
    for domain, source in (("sea", "sea.txt"), ("talk", "talk.jsonl"), ("hills", "hills.txt"), ("law", "law.txt")):
        done("learn", place / "four", place / source, "--domain", domain, *QUICK, "--accept")
    return place / "four"


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "base", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def taught(four: Path, tmp_path: Path) -> Path:
    shutil.copytree(four, tmp_path / "taught")
    return tmp_path / "taught"


def test_f18_what_session_1_taught_is_still_there_after_session_3(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Session 1's test slice costs at most 2% more bits per byte than before, where naive training loses over 4%."""
    found = {}
    for name, how in (("naive", [*NAIVE, "--steps", 50]), ("ours", ["--steps", 100])):  # half of ours is replay
        shutil.copytree(place / "base", tmp_path / name)
        for domain in ("code", "docs"):
            lesson = ["learn", tmp_path / name, place / f"{domain}.txt", "--domain", domain]
            done(*lesson, "--batch-size", 8, "--max-bytes", 8000, "--threads", 1, "--sequence-length", 64, *how)
        found[name] = said(capsys, "matrix", tmp_path / name)
    for matrix in found.values():  # every domain is measured after every session
        assert matrix["sessions"] == ["start", "code", "docs"] and matrix["domains"] == ["manual", "code", "docs"]
        assert all(None not in row[: number + 2] for number, row in enumerate(matrix["bpb"]))
        start, code, docs = matrix["bpb"]
        assert code[1] < start[1] - 0.2 and docs[2] < code[2] - 0.1  # both lessons taught something
    manual, code = ({name: matrix["bpb"][-1][at] / matrix["bpb"][at][at] - 1 for name, matrix in found.items()}
                    for at in (0, 1))  # fmt: skip
    assert manual["naive"] > 0.04 and manual["ours"] < 0.02, found
    assert code["naive"] > 0.05 and code["ours"] < 0.02, found  # and so for session 2
    assert found["naive"]["bwt"] < -0.1 < 0 < found["ours"]["bwt"] + 0.05
    assert [event["accepted"] for event in said(capsys, "history", tmp_path / "ours")["events"][1:]] == [True, True]


@pytest.fixture
def child(place: Path, model: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(moment: str, name: str) -> subprocess.Popen[str]:
        lesson = words("learn", model, place / "sea.txt", "--domain", "sea", *QUICK)
        command = [sys.executable, "-c", CHILD, moment, name, *lesson]
        started.append(subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def leftovers(model: Path) -> list[Path]:
    return [path for path in model.rglob(".*") if path.name.startswith(".staging") or path.name.endswith(".tmp")]


def loose(model: Path) -> set[str]:
    """Stored contents that no state has."""
    records = [json.loads(path.read_text()) for path in (model / "lifelong/generations").glob("*.json")]
    known = {facts["sha256"] for record in records for facts in record["files"].values()}
    return {path.name for path in (model / "lifelong/objects").glob("*/*")} - known


@pytest.mark.parametrize(
    "moment",
    ["storing", *(pytest.param(moment, marks=pytest.mark.slow) for moment in ("training", "measuring", "staged"))],
)
def test_a_lesson_killed_anywhere_leaves_the_old_state_and_the_next_command_says_so(
    model: Path, child: Any, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    before = visible(model)
    assert child(moment, "SIGKILL").wait() == -signal.SIGKILL
    files = {name: digest for name, digest in visible(model).items() if not name.startswith("lifelong/.")}
    assert files == before and ModelStore.open(model).damage() == []
    assert bool(leftovers(model)) == (moment in ("staged", "storing")) and bool(loose(model)) == (moment == "storing")
    capsys.readouterr()
    for verb in (("history",), ("domains",), ("generate", "--prompt", "sea", "--max-new-tokens", 1)):  # read only
        done(verb[0], model, *verb[1:])
        assert capsys.readouterr().err.count("runs/0002-learn-sea was cut off") == 1
    err = refused(capsys, "rollback", model)  # there is no lesson: but it tidies up, and says what it found
    assert "runs/0002-learn-sea was cut off; nothing of it is in the model. To do it again: lifelong learn" in err
    assert not leftovers(model) and not loose(model) and visible(model) == before
    done(*shlex.split(err.partition("To do it again: lifelong ")[2].partition("\n")[0]))
    assert "cut off" not in capsys.readouterr().err  # said once
    assert ModelStore.open(model).adapters() == ["sea"]


@pytest.mark.slow
def test_a_lesson_killed_after_the_switch_is_kept_whole(
    model: Path, child: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert child("switched", "SIGKILL").wait() == -signal.SIGKILL
    capsys.readouterr()
    found = said(capsys, "domains", model)["domains"]
    assert [item["adapters"] for item in found] == [[], ["sea"]]
    assert ModelStore.open(model).damage() == []
    assert main(["rollback", str(model)]) == 0
    assert "cut off just after its outcome was recorded" in capsys.readouterr().err
    assert not leftovers(model)


def test_a_second_session_is_refused_and_names_the_process_of_the_first(
    place: Path, model: Path, child: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = visible(model)
    process = child("training", "SIGSTOP")
    os.waitpid(process.pid, os.WUNTRACED)  # returns when it has stopped, in its third step
    for command in (
        ["learn", model, place / "law.txt", "--domain", "law", *QUICK],
        ["consolidate", model],
        ["forget", model, "--source", place / "manual.txt"],
        ["rollback", model],
    ):
        assert f"another process is writing here (pid {process.pid} on" in refused(capsys, *command)
    done("evaluate", model, "--max-bytes", 1000)  # reading is no writing
    capsys.readouterr()
    done("history", model)
    assert "cut off" not in capsys.readouterr().err
    process.kill()
    process.communicate()
    assert {name: digest for name, digest in visible(model).items() if name != "lifelong/.lock"} == before
    assert "0002-learn-sea was cut off; nothing of it is in the model" in refused(capsys, "rollback", model)
    assert visible(model) == before


def test_a_full_disk_in_the_commit_leaves_the_model_as_it_was(
    place: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, limits = visible(model), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert (model / "model.safetensors").stat().st_size > 250_000
    lesson = ["learn", model, place / "sea.txt", "--domain", "sea", *SMALL, "--steps", 2, "--mode", "full", "--accept"]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, limits[1]))
        err = refused(capsys, *lesson)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "could not write: File too large" in err and "Nothing was changed" in err
    assert visible(model) == before and not leftovers(model)
    assert RunFolder.find(model).facts["status"] == "failed"
    done(*lesson)


@pytest.mark.slow
def test_a_rollback_of_session_2_of_4_takes_the_later_ones_too_and_says_so(
    four: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done("rollback", taught)
    after_three = visible(taught)
    done("learn", taught, four.parent / "law.txt", "--domain", "law", *QUICK, "--accept")
    found = said(capsys, "rollback", taught, 2)
    assert found["also_undone"] == ["lesson 3 (hills)", "lesson 5 (law)"]
    assert ModelStore.open(taught).adapters() == ["sea"]
    assert "lesson 2 is not in force" in refused(capsys, "rollback", taught, 2)
    done("rollback", taught)
    base = visible(four.parent / "base")
    assert visible(taught) == base != after_three
    done("history", taught)


def test_a_rollback_is_byte_identical_after_consolidating_and_says_what_it_brings_back_after_forgetting(
    four: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, start = four.parent, visible(taught)
    size = ["--steps", 4, "--batch-size", 4, "--sequence-length", 32, "--max-bytes", 4000, "--threads", 1]
    done("consolidate", taught, *size, "--accept")
    assert "**adapters**: none" in (taught / "README.md").read_text()
    said_of_it = said(capsys, "rollback", taught)
    assert said_of_it["also_undone"] == [] and visible(taught) == start
    gone = said(capsys, "forget", taught, "--source", place / "hills.txt")
    assert gone["adapters"] == ["hills"] and any("held-out documents of it" in line for line in gone["stays"])
    assert "**adapters**: sea, talk, law" in (taught / "README.md").read_text()
    # Its text is new again: it can be taught, without --again.
    done("learn", taught, place / "hills.txt", "--domain", "hills", *QUICK, "--accept")
    assert ModelStore.open(taught).adapters() == ["sea", "talk", "law", "hills"]
    done("forget", taught, "--source", place / "hills.txt")
    capsys.readouterr()
    done("rollback", taught, 4)
    out = capsys.readouterr().out
    assert f"Back again, as it was forgotten only later: {place / 'hills.txt'}" in out
    assert f"lifelong forget {taught} --source" in out
    assert ModelStore.open(taught).adapters() == ["sea", "talk", "hills"]


def test_a_lesson_on_a_stock_directory_can_be_rolled_back(
    place: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(model / "lifelong")
    shutil.rmtree(model / "runs")
    before = visible(model)
    done("learn", model, place / "sea.txt", "--domain", "sea", *QUICK)
    assert visible(model)["model.safetensors"] == before["model.safetensors"]
    done("rollback", model)
    assert visible(model) == before and not leftovers(model)


def test_an_adapter_and_weights_that_do_not_belong_together_are_refused(
    four: Path, taught: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = four.parent
    done("learn", model, place / "code.txt", "--domain", "code", *SMALL, "--steps", 2, "--mode", "full", "--accept")
    done("learn", model, place / "sea.txt", "--domain", "sea", *QUICK, "--accept")  # made for other weights
    name = "lifelong/adapters/sea/adapter_model.safetensors"
    (taught / name).unlink()  # a hard link: what it leads to is the store's
    shutil.copy(model / name, taught / name)
    assert "adapter 'sea' was made for other weights" in refused(capsys, "generate", taught, "--prompt", "x")
    (model / "model.safetensors").unlink()
    shutil.copy(taught / "model.safetensors", model / "model.safetensors")
    err = refused(capsys, "learn", model, place / "law.txt", "--domain", "law", *QUICK)
    assert "the weights were changed from outside" in err


def test_a_loss_that_explodes_undoes_the_lesson(place: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = visible(model)
    lesson = ["learn", model, place / "sea.txt", "--domain", "sea", *SMALL, "--learning-rate"]
    assert "not a number for 3 steps in a row" in refused(capsys, *lesson, 1e30, "--steps", 9, "--mode", "full")
    err = refused(capsys, *lesson, 1e30, "--steps", 1, "--mode", "adapter")
    assert "nothing of it is kept" in err and "rollback" not in err and "lower --learning-rate" in err
    assert visible(model) == before and RunFolder.find(model).facts["status"] == "failed"


@pytest.mark.slow
def test_text_that_grows_gets_its_slices_when_it_is_large_enough(
    place: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first text of a domain can be too small for a slice, also beside adapters; it is measured from then on."""
    (tmp_path / "one.txt").write_text("The sea is wide, and nobody has measured how deep it is. " * 5)
    found = said(capsys, "learn", model, tmp_path / "one.txt", "--domain", "sea", *QUICK)
    assert found["accepted"] and any("unmeasured" in reason for reason in found["reasons"])
    assert "taught all of it" in refused(capsys, "learn", model, tmp_path / "one.txt", "--domain", "two", *QUICK)
    done("learn", model, place / "sea.txt", "--domain", "sea", *QUICK)
    done("learn", model, place / "law.txt", "--domain", "law", *QUICK)
    assert all(value is not None for value in said(capsys, "matrix", model)["bpb"][-1])


@pytest.mark.parametrize(
    ("name", "domain", "why"),
    [
        ("sea.txt", "../evil", "it names a folder"),
        ("sea.txt", "two words", "it names a folder"),
        ("sea.txt", "x" * 65, "at most 64"),
        ("sea.txt", "routed", "cannot be an adapter's name"),
        ("empty.txt", "empty", "no document is left"),
        ("nowhere.txt", "sea", "nowhere.txt"),
    ],
)
def test_what_cannot_be_taught_is_refused_and_changes_nothing(
    place: Path, four: Path, name: str, domain: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty.txt").write_text(" \n\n")
    before = visible(four)
    assert why in refused(capsys, "learn", four, place / name, "--domain", domain, *QUICK, "--again")
    assert visible(four) == before


def test_no_document_gets_dearer_than_the_bound_when_one_more_adapter_comes(taught: Path) -> None:
    few = {domain: found[:8] for domain, found in read_slices(taught, ["manual", "hills", "law"], "test").items()}

    def nats() -> list[float]:
        model, tokenizer = load_model(taught)
        scores = [score(model, tokenizer, documents, sequence_length=32) for documents in few.values()]
        return [value for one in scores for value, _ in one.documents]

    with_four = nats()
    done("rollback", taught)
    with_three = nats()
    rises = [(after - before) / math.log(2) for before, after in zip(with_three, with_four, strict=True)]
    assert max(rises) <= bound_bits(5, 4) + 1e-4
    assert max(rises) > 0.0 > min(rises)  # it is a matter of some bits, and the lesson's own domain has gained


@pytest.mark.parametrize("mode", ["adapter", pytest.param("full", marks=pytest.mark.slow)])
def test_the_same_lesson_with_the_same_seed_gives_the_same_files(place: Path, tmp_path: Path, mode: str) -> None:
    found = []
    for number in range(2):
        root = tmp_path / str(number)
        shutil.copytree(place / "base", root)
        done("learn", root, place / "sea.txt", "--domain", "sea", *SMALL, "--steps", 4, "--mode", mode, "--accept")
        weights = "model.safetensors" if mode == "full" else "lifelong/adapters/sea/adapter_model.safetensors"
        found.append(visible(root)[weights])
    assert found[0] == found[1]


def test_conversations_are_taught_in_an_adapter_evaluated_and_chatted_with(
    place: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [*SMALL, "--mode", "adapter", "--steps", 40, "--learning-rate", 0.01]
    done("learn", model, place / "talk.jsonl", "--domain", "talk", *long)
    done("learn", model, place / "sea.txt", "--domain", "sea", *QUICK)
    domains = said(capsys, "evaluate", model, "--max-bytes", 8000)["domains"]
    alone = {name: facts["bits_per_byte"] if isinstance(facts, dict) else facts for name, facts in
             domains["talk"]["experts"].items()}  # fmt: skip
    assert set(alone) == {"base", "talk", "sea"} and min(alone, key=lambda name: alone[name]) == "talk"
    assert domains["talk"]["bits_per_byte"] < alone["base"] - 0.02
    question = ["chat", model, "--message", "What is assert?", "--seed", 1, "--max-tokens", 12]
    routed = said(capsys, *question)
    assert routed["answer"] == said(capsys, *question)["answer"] and "<|" not in routed["answer"]
    assert said(capsys, *question, "--adapter", "talk")["answer"]
