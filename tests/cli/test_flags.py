"""Flags made from settings, driven through the real verbs with the rooms below replaced by a recorder."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main
from lifelong.cli.common import print_facts, spell_bytes, spell_value
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import TrainSettings


class _Result:
    accepted = True
    out = Path("m")
    run = Path("m/runs/0001-none")

    def to_dict(self) -> dict[str, Any]:
        return {"out": "m", "steps": 3, "after": {"loss": 1.5}}

    def summary(self) -> str:
        return "The lesson was kept."


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def room(name: str, *functions: str) -> None:
        module = types.ModuleType(name)
        for function in functions:

            def call(*args: Any, _function: str = function, **kwargs: Any) -> _Result:
                seen.append((_function, args, kwargs))
                print("room noise", file=sys.stderr)
                return _Result()

            setattr(module, function, call)
        monkeypatch.setitem(sys.modules, name, module)

    room("lifelong.train.run", "train", "resume")
    room("lifelong.learn.session", "learn")
    return seen


def test_train_hands_over_data_places_and_settings(calls: Any, tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("epochs: 2\nbatch_size: 4\noptimizer:\n  name: adamw\n")
    arguments = ["--data", "a.txt", "b/:markdown@2", "--out", "m", "--tokenizer", "t", "--fresh"]
    flags = [
        "--config",
        str(config),
        "--batch_size",
        "16",
        "--learning-rate",
        "1e-3",
        "--optimizer.betas",
        "0.8",
        "0.9",
    ]
    assert main(["train", *arguments, *flags]) == 0
    ((_, (data, out, settings), options),) = calls
    assert (data, out) == (["a.txt", "b/:markdown@2"], Path("m"))
    assert options == {"tokenizer": Path("t"), "base": None, "fresh": True, "onnx": None, "dry_run": False}
    assert settings == TrainSettings.build(
        {"epochs": 2, "batch_size": 16, "optimizer": {"name": "adamw", "learning_rate": 1e-3, "betas": (0.8, 0.9)}}
    )


def test_kebab_underscore_dotted_and_short_flags_are_one(calls: Any) -> None:
    spellings = ["--optimizer.learning-rate", "--optimizer.learning_rate", "--learning-rate", "--learning_rate"]
    for spelling in spellings:
        assert main(["train", "--data", "x", "--data", "y", "--out", "m", f"{spelling}=0.25", "--steps", "3"]) == 0
    assert len({repr(call) for call in calls}) == 1
    assert calls[0][1][2].optimizer.learning_rate == 0.25
    assert calls[0][1][0] == ["x", "y"]


def test_learn_takes_model_and_sources_and_switches(calls: Any) -> None:
    arguments = ["model", "a.md", "b.py", "--domain", "code", "--no-use-ewc", "--lora-r", "4", "--mode", "full"]
    assert main(["learn", *arguments, "--dry-run"]) == 0
    ((_, (model, sources, settings), options),) = calls
    assert (model, sources, options) == (Path("model"), ["a.md", "b.py"], {"dry_run": True})
    assert settings == LearnSettings.build({"domain": "code", "use_ewc": False, "lora_rank": 4, "mode": "full"})


def test_json_is_alone_on_standard_output(calls: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["train", "--data", "x", "--out", "m"],
        ["learn", "m", "x"],
        ["resume", "m"],
    ):
        assert main([*arguments, "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == _Result().to_dict()
        assert err == "room noise\n"
    assert main(["learn", "m", "x"]) == 0
    assert capsys.readouterr().out == "The lesson was kept.\n"


def test_presets_as_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 90
    assert main(["presets", "--json", "--batch-size", "1", "--sequence-length", "64"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        assert row["name"] in table
        assert row["disk_bytes"] == 4 * row["parameters"]
        assert row["train_memory_bytes"] > 12 * row["parameters"]
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)


def test_presets_with_a_tokenizer_count_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lifelong.tokens import BPETokenizer

    BPETokenizer(vocab_size=280).train(["some words to count " * 20, "others, and some more " * 20]).save(
        tmp_path / "t"
    )
    vocab_size = BPETokenizer.load(tmp_path / "t").vocab_size
    assert main(["presets", "--json", "--tokenizer", str(tmp_path / "t")]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {row["vocab_size"] for row in rows.values()} == {vocab_size}
    assert rows["nano"]["parameters"] == 2_361_536 - (4096 - vocab_size) * 192


@pytest.mark.parametrize(
    ("count", "spelled"),
    [(3, "3 B"), (999_999, "1.0 MB"), (40_400_000, "40.4 MB"), (1.636e9, "1.6 GB"), (5e13, "50.0 TB")],
)
def test_sizes_as_people_read_them(count: float, spelled: str) -> None:
    assert spell_bytes(count) == spelled


def test_facts_in_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"steps": 12345, "loss": 1.23456789, "none": None, "after": {"kept": True}})
    assert capsys.readouterr().out == "steps  12,345\nloss   1.235\nafter\n  kept  True\n"
    assert spell_value(123456.7) == "123,457"
