"""`lifelong pipeline` through the command line: every stage once, and gone on with after a kill."""

from __future__ import annotations

import json
import os
import pydoc_data.topics as topics
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifelong.cli.app import main
from lifelong.files import sha256_file
from lifelong.model.store import ModelStore
from lifelong.tokens.writing import ShardWriter
from lifelong.train.folder import RunFolder

STAGES = ["tokenizer", "caches", "pretrain", "sft", "evaluate", "export"]
PRESET = """\
name: small-test
reference_vocab_size: 600
model: {d_model: 32, num_layers: 1, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
ALIKE = ["sequence_length=64", "tracking.plots=false", "tracking.tensorboard=false", "threads=1", "compile=off"]
TEXTS = [text for _, text in sorted(topics.topics.items())]


def write_texts(folder: Path, texts: list[str]) -> None:
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")


def write_talk(file: Path) -> None:
    turns = [
        [{"role": "user", "content": f"What is {name}?"}, {"role": "assistant", "content": text[:120]}]
        for name, text in sorted(topics.topics.items())
    ]
    file.write_text("".join(json.dumps({"messages": item}) + "\n" for item in turns))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Running text, conversations and a small preset."""
    root = tmp_path_factory.mktemp("pipeline")
    write_texts(root / "docs", TEXTS[:30])
    write_talk(root / "talk.jsonl")
    (root / "small.yaml").write_text(PRESET)
    return root


def command(place: Path, out: Path, *more: object, steps: tuple[int, int] = (5, 4)) -> list[str]:
    fixed = ["pipeline", "--data", place / "docs", "--chat", place / "talk.jsonl", "--preset", place / "small.yaml"]
    first = ["--vocab-size", 600, "--pretrain", f"steps={steps[0]}", *ALIKE, "--sft", f"steps={steps[1]}", *ALIKE]
    return [str(word) for word in [*fixed, *first, "--out", out, *more]]


def call(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    code = main([*words, "--json"])
    shown, said = capsys.readouterr()
    assert code == 0, said
    result: dict[str, Any] = json.loads(shown)
    return result, said


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {name: stage["status"] for name, stage in result["stages"].items()}


def done(result: dict[str, Any]) -> list[str]:
    return [name for name, status in statuses(result).items() if status == "done"]


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A pipeline that ran through."""
    assert main(command(place, place / "whole")) == 0
    return place / "whole"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(whole, tmp_path / "m"))


def test_f44_one_command_makes_a_tuned_model_with_a_matrix_and_a_second_does_nothing(
    place: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = json.loads((whole / "pipeline/pipeline.json").read_text())["stages"]
    assert list(notes) == STAGES and all(record["status"] == "done" for record in notes.values())
    # Held-out text got cheaper in either stage: bits per byte before and after, of the gate split.
    for phase in ("pretrain", "sft"):
        assert notes[phase]["result"]["after"]["bits_per_byte"] < notes[phase]["result"]["before"]["bits_per_byte"]
    assert main(["matrix", str(whole), "--json"]) == 0
    matrix = json.loads(capsys.readouterr().out)
    assert matrix["domains"] == ["base", "chat"] and len(matrix["bpb"]) == 2
    events = [event["event"] for event in ModelStore.open(whole).history()]
    assert events == ["train", "train", "export"] and ModelStore.open(whole).damage() == []
    assert main(["history", str(whole)]) == 0
    shown = capsys.readouterr().out
    assert "Hugging Face files in fp32, in place" in shown and "lower is better" in shown and "--to STATE" in shown
    assert "bits per byte, chat, test" in (whole / "README.md").read_text()
    export = json.loads((whole / "pipeline/export.json").read_text())
    assert "computes the same" in export["checked_with"] and "model.safetensors" in export["files"]
    files = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.suffix != ".log"}
    result, said = call(capsys, command(place, whole))
    assert set(statuses(result).values()) == {"up to date"}
    assert [f"{name}: up to date" for name in STAGES] == said.splitlines()[-len(STAGES) :]
    after = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.suffix != ".log"}
    assert after == files
    assert main(["generate", str(whole), "--prompt", "What is", "--max-tokens", "4"]) == 0


@pytest.mark.slow
def test_f44_what_changed_is_redone_with_all_that_depends_on_it_and_said(
    place: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, said = call(capsys, command(place, copy, steps=(5, 3)))
    assert done(result) == ["sft", "evaluate", "export"]
    assert "sft: other settings (steps: 4 before, 3 now)" in said
    # Chat tuning began again from the pretrained model, not from the tuned one.
    assert "runs/0001-pretrain/final" in RunFolder(copy / "runs/0003-sft").facts["start"]["model"]
    result, said = call(capsys, command(place, copy, "--device", "cpu", steps=(5, 3)))
    assert done(result) == []
    shutil.copytree(place / "docs", copy.parent / "docs")
    shutil.copy(place / "talk.jsonl", copy.parent)
    shutil.copy(place / "small.yaml", copy.parent)
    (copy.parent / "docs/new.txt").write_text(TEXTS[60])
    moved = command(copy.parent, copy, steps=(5, 3))
    preset = moved.index("--preset") + 1
    moved[preset] = str(place / "small.yaml")
    result, said = call(capsys, moved)
    assert done(result) == STAGES and "tokenizer: other text" in said and "caches: other text, other tokenizer" in said
    events = ModelStore.open(copy).history()
    assert len([event for event in events if event["event"] == "train"]) == 5
    kept = ModelStore.open(copy).files(2)["model.safetensors"]["sha256"]  # the first tuned model, still there
    assert (copy / "lifelong/objects" / kept[:2] / kept).is_file()


def test_f44_redo_does_a_stage_and_its_dependents_again(
    place: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256_file(copy / "model.safetensors")
    result, said = call(capsys, command(place, copy, "--redo", "sft"))
    assert done(result) == ["sft", "evaluate", "export"] and "sft: asked for again" in said
    assert sha256_file(copy / "model.safetensors") == before  # the same inputs, the same weights
    assert (result["stages"]["sft"]["run"], statuses(result)["pretrain"]) == ("runs/0003-sft", "up to date")


def test_f44_skip_takes_what_is_there_and_is_refused_where_nothing_is(
    place: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    assert main(command(place, new, "--skip", "tokenizer")) == 2
    said = capsys.readouterr().err
    assert "'caches' needs what 'tokenizer' makes, and that is skipped" in said and not new.exists()
    assert main(command(place, new, "--skip", "pretrain")) == 2
    assert "'sft' needs what 'pretrain' makes" in capsys.readouterr().err
    assert main(command(place, new, "--skip", "sfd")) == 2
    assert "Did you mean 'sft'?" in capsys.readouterr().err
    assert main(command(place, new, "--redo", "train")) == 2
    assert "this pipeline has no such stage" in capsys.readouterr().err
    # Other steps of pretraining would run it again; skipped, its model is taken as it is.
    result, _ = call(capsys, command(place, copy, "--skip", "pretrain", "--skip", "export", steps=(2, 4)))
    assert list(statuses(result).values()) == [
        "up to date",
        "up to date",
        "skipped",
        "up to date",
        "up to date",
        "skipped",
    ]
    result, _ = call(capsys, command(place, new, "--skip", "sft", "--skip", "evaluate", "--skip", "export"))
    assert done(result) == ["tokenizer", "caches", "pretrain"]
    pretrained = result["stages"]["pretrain"]["weights"]
    assert sha256_file(new / "model.safetensors") == pretrained
    result, _ = call(capsys, command(place, new))
    assert done(result) == ["sft", "evaluate", "export"]
    assert sha256_file(new / "model.safetensors") == sha256_file(copy / "model.safetensors")


_KILLED = """\
import os, signal, sys
from lifelong.cli.app import main
from lifelong.train.folder import RunFolder

log = RunFolder.log


def die(self, row):
    log(self, row)
    if self.path.name.endswith(sys.argv[1]) and row["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)


RunFolder.log = die
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_f44_killed_in_either_training_and_gone_on_with_the_weights_are_the_same(
    place: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    often = ["checkpoint.every_minutes=0.000001"]
    words = command(place, out, "--pretrain", "steps=5", *ALIKE, *often, "--sft", "steps=4", *ALIKE, *often)
    for phase in ("pretrain", "sft"):
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, phase, *words], capture_output=True, text=True, check=False, env=os.environ
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    result, said = call(capsys, words)
    assert "sft: it was interrupted; going on" in said and "Going on at step 2 of 4." in said
    assert done(result) == ["sft", "evaluate", "export"]
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["0001-pretrain", "0002-sft"]
    assert sha256_file(out / "model.safetensors") == sha256_file(whole / "model.safetensors")
    assert "pretrain: it was interrupted; going on" in (out / "pipeline/pipeline.log").read_text()


def test_f44_ctrl_c_says_how_to_go_on(
    place: Path,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with interrupted_at(2):
        assert main(command(place, tmp_path / "m", "--skip", "sft")) == 130
    assert "The same command goes on." in capsys.readouterr().err
    result, said = call(capsys, command(place, tmp_path / "m", "--skip", "sft", "--skip", "export"))
    assert "pretrain: it was interrupted; going on" in said and done(result) == ["pretrain", "evaluate"]


def test_f44_interrupted_while_caching_and_gone_on_with_the_caches_are_the_same(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add, calls = ShardWriter.add, []

    def interrupt(self: ShardWriter, *given: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return add(self, *given)

    words = command(place, tmp_path / "m", "--skip", "pretrain", "--skip", "sft", "--skip", "evaluate")
    words += ["--skip", "export"]
    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "add", interrupt)
        assert main(words) == 130
    result, said = call(capsys, words)
    assert "tokenizer: up to date" in said and "caches: it was interrupted; going on" in said
    assert done(result) == ["caches"]
    metas = {path.relative_to(whole): path.read_bytes() for path in (whole / "pipeline/caches").rglob("*.bin")}
    assert metas and all((tmp_path / "m" / path).read_bytes() == data for path, data in metas.items())


@pytest.mark.slow
def test_f44_lessons_stay_until_an_earlier_stage_is_redone_and_then_it_is_said(
    place: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_texts(tmp_path / "new", TEXTS[60:70])
    taught = ["learn", copy, tmp_path / "new", "--domain", "new", "--mode", "full", "--steps", 2, "--accept"]
    assert main([str(word) for word in taught]) == 0
    result, _ = call(capsys, command(place, copy))
    assert done(result) == ["evaluate", "export"]
    assert set(result["stages"]["evaluate"]["domains"]) == {"base", "chat", "new"}
    result, said = call(capsys, command(place, copy, "--redo", "sft"))
    assert "knows nothing of lessons taught since (new)" in said
    assert set(result["stages"]["evaluate"]["domains"]) == {"base", "chat"}


def test_f44_a_dry_run_says_all_and_changes_nothing(
    place: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, said = call(capsys, command(place, tmp_path / "m", "--dry-run"))
    assert set(statuses(result).values()) == {"would run"} and not (tmp_path / "m").exists()
    first = result["stages"]["pretrain"]
    assert (first["steps"], first["tokens"], first["parameters"]) == (5, 5 * 8 * 64, 31_616)
    assert first["seconds"] > 0 and result["estimate"]["disk_bytes"] > first["disk_bytes"] > 4 * 31_616
    assert "pretrain: would run ('caches' runs before it)" in said
    result, said = call(capsys, command(place, whole, "--dry-run", "--redo", "evaluate"))
    assert {name for name, status in statuses(result).items() if status == "would run"} == {"evaluate", "export"}


def test_f44_a_dry_run_counts_the_steps_that_are_run_and_says_what_is_missing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_epochs(out: Path) -> list[str]:
        counted = {"steps=5": "epochs=0.3", "steps=4": "epochs=1"}
        return [counted.get(word, word) for word in command(place, out, "--skip", "export")]

    words = in_epochs(tmp_path / "m")
    planned, said = call(capsys, [*words, "--dry-run"])
    assert "sft/chat/train: " in said and not (tmp_path / "m").exists()
    assert "Not counted in that time: learning the tokenizer, caching the text, measuring held-out text" in said
    assert "the evaluation" in said and "export" not in said.splitlines()[-1]
    result, _ = call(capsys, words)
    for phase in ("pretrain", "sft"):
        steps, parameters = (planned["stages"][phase][key] for key in ("steps", "parameters"))
        assert (steps, parameters) == tuple(result["stages"][phase][key] for key in ("steps", "parameters"))
    # Counted on the caches that are there now.
    again, _ = call(capsys, [*words, "--dry-run", "--redo", "sft"])
    assert again["stages"]["sft"]["steps"] == result["stages"]["sft"]["steps"]
    words = in_epochs(tmp_path / "n")
    words[words.index(str(place / "talk.jsonl"))] = str(place / "docs" / "000.txt")
    assert main([*words, "--dry-run"]) == 2
    assert "000.txt: there is nothing for chat tuning: no conversations" in capsys.readouterr().err


def test_f44_a_dry_run_on_a_data_file_counts_its_steps_and_conversations(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"What of {text[:20]!r}?", "answer": text[:400]} for text in TEXTS[:40]]
    (tmp_path / "web.json").write_text(json.dumps(rows))
    words = ["pipeline", "--data-file", str(tmp_path / "web.json"), "--out", str(tmp_path / "m"), "--epochs", "2"]
    words += ["--preset", str(place / "small.yaml"), "--pretrain", *ALIKE, "--skip", "evaluate", "--skip", "export"]
    planned, said = call(capsys, [*words, "--dry-run"])
    count = planned["stages"]["train"]["steps"]
    assert "of them conversations" in said and "none of them" not in said and not (tmp_path / "m").exists()
    result, _ = call(capsys, words)
    assert result["stages"]["train"]["steps"] == count


def test_f41_the_phase_pipeline_of_train_and_a_pipeline_profile(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--profile", "pipeline-dev", "--device", "cpu", "--data", place / "docs", "--chat", place / "talk.jsonl"]
    words = ["train", "--phase", "pipeline", *flags, "--out", tmp_path / "m", "--dry-run"]
    result, _ = call(capsys, [str(word) for word in words])
    assert (result["stages"]["pretrain"]["steps"], result["stages"]["sft"]["steps"]) == (600, 200)
    assert (
        main(["train", "--profile", "pipeline-dev", "--out", str(tmp_path / "m"), "--data", str(place / "docs")]) == 2
    )
    assert "lifelong pipeline --profile pipeline-dev" in capsys.readouterr().err
    for profile, message in (("pipline-dev", "Did you mean 'pipeline-dev'?"), ("dev", "--pretrain profile=dev")):
        words = ["pipeline", "--profile", profile, "--data", place / "docs", "--out", tmp_path / "m"]
        assert main([str(word) for word in words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_f40_f44_the_json_files_of_a_pipeline_load_as_they_stand(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    shutil.copytree(whole / "pipeline/caches", tmp_path / "data/cache")
    pretrain = {
        "data": {
            "caches": {"pretrain_token_cache": "data/cache/pretrain"},
            "mix_pretrain": {"text": 1.0},
            "val_pretrain_source": "text",
        },
        "training": {"pretrain": {"total_steps": 3, "micro_B": 2, "accum_steps": 2, "amp": True, "amp_dtype": "fp16"}},
    }
    sft = {
        "data": {"caches": {"sft_token_cache": "data/cache/sft"}},
        "training": {"sft": {"micro_B": 2, "total_steps": 2, "amp": True}},
    }
    (configs / "minimal-pretrain.json").write_text(json.dumps(pretrain))
    (configs / "minimal-sft.json").write_text(json.dumps(sft))
    named = {"pretrain_config_path": "configs/minimal-pretrain.json", "sft_config_path": "configs/minimal-sft.json"}
    (configs / "pipeline.json").write_text(json.dumps(named))
    monkeypatch.chdir(tmp_path)
    words = ["pipeline", "--config", "configs/pipeline.json", "--out", "m", "--preset", str(place / "small.yaml")]
    result, said = call(capsys, [*words, "--pretrain", *ALIKE, "--sft", *ALIKE])
    assert done(result) == ["pretrain", "sft", "evaluate", "export"]
    assert "caches of pretrain: data/cache/pretrain, as they are" in said
    resolved = yaml.safe_load((tmp_path / "m/runs/0001-pretrain/resolved_settings.yaml").read_text())
    assert (resolved["steps"], resolved["batch_size"], resolved["gradient_accumulation_steps"]) == (3, 2, 2)
    assert resolved["data"]["mix"] == {"text": 1.0}
    # A name beside the file is found too; one that is nowhere is named with its line.
    named["sft_config_path"] = "minimal-sft.json"
    (configs / "pipeline.json").write_text(json.dumps(named, indent=1))
    result, _ = call(capsys, [*words, "--pretrain", *ALIKE, "--sft", *ALIKE])
    assert done(result) == []
    named["sft_config_path"] = "nowhere.json"
    (configs / "pipeline.json").write_text(json.dumps(named, indent=1))
    assert main(words) == 2
    assert "configs/pipeline.json:3: there is no file 'nowhere.json'" in capsys.readouterr().err
    # A mixture that names what is not there is refused before anything is trained, and all that lacks is named.
    pretrain["data"]["mix_pretrain"] = {"fineweb_edu": 0.6, "wikitext": 0.2, "text": 0.2}  # type: ignore[index]
    (configs / "minimal-pretrain.json").write_text(json.dumps(pretrain))
    named["sft_config_path"] = "minimal-sft.json"
    (configs / "pipeline.json").write_text(json.dumps(named))
    words[words.index("m")] = "other"
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "the mixture of pretraining lacks fineweb_edu, wikitext (there is: text)" in said
    assert not (tmp_path / "other/runs").exists()


@pytest.mark.slow
def test_f44_the_usual_sets_are_built_where_they_can_be_had_and_the_others_are_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = tmp_path / "hub"
    for name, rows in {
        "wikitext-103": [{"text": text} for text in TEXTS[:12]],
        "dolly-15k": [
            {"instruction": f"Explain {name}.", "context": "", "response": text[:100]}
            for name, text in sorted(topics.topics.items())
        ],
    }.items():
        (hub / name).mkdir(parents=True)
        (hub / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "roam").mkdir()
    for number, text in enumerate(TEXTS[20:32]):
        (tmp_path / "roam" / f"{number}.md").write_text("- " + text.strip().replace("\n", "\n- "))
    monkeypatch.setenv("LIFELONG_HUB_DIR", str(hub))
    words = ["pipeline", "--roam-dir", tmp_path / "roam", "--out", tmp_path / "m", "--preset", place / "small.yaml"]
    words += ["--pretrain", "steps=2", *ALIKE, "--sft", "steps=2", *ALIKE, "--vocab-size", 500]
    result, said = call(capsys, [str(word) for word in words])
    assert done(result) == STAGES
    assert set(result["stages"]["caches"]["missing"]) == {"fineweb_edu", "oasst1"}
    assert "pretraining goes without fineweb_edu" in said and "chat tuning goes without oasst1" in said
    assert {label.split("/")[1] for label in result["stages"]["caches"]["tokens"]} == {"roam", "wikitext", "dolly15k"}
    result, said = call(capsys, [str(word) for word in words])
    assert done(result) == [] and "caches: up to date (without fineweb_edu, oasst1, which could not be had" in said
    words += ["--pretrain", "steps=2", *ALIKE, "mix={fineweb_edu: 0.6, roam: 0.4}"]
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert "the mixture of pretraining lacks fineweb_edu (there is: roam, wikitext)" in said and "no local copy" in said


@pytest.mark.slow
def test_f13_f44_a_data_file_is_learned_and_later_files_go_on_from_there(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, some in (("basics", TEXTS[:40]), ("web", TEXTS[40:78])):
        rows = [{"question": f"What of {text[:20]!r}?", "answer": text[:400]} for text in some]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path)
    given = ["--output-dir", "./trained_model", "--onnx-output", "./onnx_model", "--preset", str(place / "small.yaml")]
    words = [*given, "--pretrain", *ALIKE]
    result, said = call(capsys, ["pipeline", "--data-file", "basics.json", "--epochs", "2", *words])
    assert list(statuses(result)) == ["train", "evaluate", "export"] == done(result)
    assert "training a new one" in said and "ONNX" in said
    assert (tmp_path / "onnx_model" / "export.json").is_file()
    assert ModelStore.open(tmp_path / "trained_model").history()[-1]["onnx"] == "onnx_model"
    # The second file, with the directories that are meant where none are named.
    second = ["pipeline", "--data-file", "web.json", "--epochs", "1", "--pretrain", *ALIKE]
    result, said = call(capsys, second)
    assert "Found an existing trained model in trained_model: continuing training from it." in said
    assert "train: other text" in said and done(result) == ["train", "evaluate", "export"]
    assert main(["matrix", "trained_model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["domains"] == ["basics", "web"]
    events = [event.get("from") for event in ModelStore.open(tmp_path / "trained_model").history()]
    assert events == ["new", None, "further", None]
    result, _ = call(capsys, second)
    assert done(result) == []


def test_f44_weights_of_sources_count_and_conversations_among_the_text_are_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_texts(tmp_path / "notes", TEXTS[40:60])
    words = ["pipeline", "--data", f"{place / 'docs'}@3", tmp_path / "notes", place / "talk.jsonl", "--vocab-size", 500]
    words += ["--preset", place / "small.yaml", "--pretrain", "steps=2", *ALIKE, "--out", tmp_path / "m"]
    result, said = call(capsys, [str(word) for word in [*words, "--skip", "evaluate", "--skip", "export"]])
    assert "'talk' holds conversations, which are not trained on: name them with --chat" in said
    sizes = {label: count for label, count in result["stages"]["caches"]["tokens"].items() if label.endswith("/train")}
    docs, notes = sizes["pretrain/docs/train"], sizes["pretrain/notes/train"]
    parts = RunFolder(tmp_path / "m/runs/0001-pretrain").facts["mixture"]["parts"]
    assert {part["name"]: part["asked"] for part in parts} == {
        "docs": pytest.approx(3 * docs / (3 * docs + notes)),
        "notes": pytest.approx(notes / (3 * docs + notes)),
    }


def test_f44_a_base_is_tuned_on_conversations_with_its_own_tokenizer(
    place: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pipeline", "--base", whole, "--chat", place / "talk.jsonl", "--out", tmp_path / "m"]
    words += ["--sft", "steps=2", *ALIKE, "--skip", "export"]
    result, said = call(capsys, [str(word) for word in words])
    assert done(result) == ["sft", "evaluate"] and f"Training from base model {whole}." in said
    assert set(result["stages"]["evaluate"]["domains"]) == {"base", "chat"}
    result, _ = call(capsys, [str(word) for word in words])
    assert done(result) == []


def test_f44_settings_as_written_make_the_same_pipeline(
    place: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "ours.yaml"
    shutil.copy(whole / "pipeline/resolved_settings.yaml", written)
    result, _ = call(capsys, ["pipeline", "--config", str(written), "--out", str(whole), "--dry-run"])
    assert set(statuses(result).values()) == {"up to date"}
    written.write_text(written.read_text().replace("steps: 4", "stepz: 4"))
    assert main(["pipeline", "--config", str(written), "--out", str(whole)]) == 2
    assert "settings of sft: unknown setting 'stepz'. Did you mean 'steps'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data-file", "a.json", "--chat", "b.jsonl"], "data_file trains on one file alone (given beside it: chat)"),
        (["--data", "docs", "--primer", "p.txt"], "PATH:primer"),
        (["--chat", "talk.jsonl"], "no model to tune"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "docs", "--pretrain", "steps"], "write it as KEY=VALUE"),
        (["--base", "nowhere", "--data", "docs"], "no such directory here"),
        (["--cache-dir", "nowhere"], "there is nothing to train on"),
    ],
)
def test_f44_mistakes_are_named(
    flags: list[str], message: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["pipeline", *flags, "--out", "never"]) == 2
    assert message in capsys.readouterr().err
    assert not (place / "never/runs").exists()


def test_f44_one_pipeline_at_a_time(place: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = copy / "pipeline/.lock"
    lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname()}))
    assert main(command(place, copy)) == 2
    assert "another process is writing here" in capsys.readouterr().err


def test_f44_a_model_that_no_pipeline_made_is_not_replaced(
    place: Path, whole: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "pipeline")
    before = sha256_file(copy / "model.safetensors")
    assert main(command(place, copy)) == 2
    assert "a model that this pipeline did not make" in capsys.readouterr().err
    assert sha256_file(copy / "model.safetensors") == before


def test_f44_a_damaged_model_is_moved_aside_and_its_stage_redone(
    place: Path, whole: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copy / "model.safetensors"
    data = bytearray(broken.read_bytes())
    data[-5] ^= 1
    broken.unlink()
    broken.write_bytes(bytes(data))
    result, said = call(capsys, command(place, copy))
    assert "the model directory is damaged: model.safetensors" in said
    assert done(result) == ["sft", "evaluate", "export"]
    assert sha256_file(copy / "model.safetensors") == sha256_file(whole / "model.safetensors")
    assert (copy.parent / "m.incomplete-1/model.safetensors").read_bytes() == bytes(data)
