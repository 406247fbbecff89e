"""A user's first day, from the command line, on Python's own documentation: each feature row that is built."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main
from lifelong.text import write_python_corpora

PRESET = """\
name: walkthrough
description: for tests
reference_vocab_size: 1000
model: {d_model: 64, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 128}
"""


def lifelong(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run one command that must succeed; returns its standard output."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(lifelong(capsys, *arguments, "--json"))
    return result


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the day, with the user's own files in it."""
    place = tmp_path_factory.mktemp("day")
    corpora = write_python_corpora(place / "all")
    for name, folder in corpora.items():
        (place / name).mkdir()
        for path in sorted(folder.iterdir())[::6]:  # a sixth is enough for a test
            (place / name / path.name).write_bytes(path.read_bytes())
    (place / "preset.yaml").write_text(PRESET)
    (place / "run.yaml").write_text(
        f"preset: {place / 'preset.yaml'}\nbatch_size: 16\nsequence_length: 64\nevaluation:\n  max_bytes: 10000\n"
    )
    return place


@pytest.fixture(scope="module")
def trained(day: Path) -> Path:
    """The model after preparing, training, chat tuning and one lesson: about half a minute."""
    for name in ("prose", "code", "chat"):
        assert main(["prepare", str(day / name), "--out", str(day / f"{name}-data"), "--split-by", "name"]) == 0
    assert main(["tokenizer", "train", str(day / "prose-data"), "--vocab-size", "1000", "--out", str(day / "tok")]) == 0
    common = ["--out", str(day / "model"), "--config", str(day / "run.yaml")]
    pretrain = ["--data", str(day / "prose-data"), "--tokenizer", str(day / "tok"), "--domain", "prose"]
    assert main(["train", *common, *pretrain, "--steps", "160"]) == 0
    tune = ["--data", str(day / "chat-data"), "--phase", "sft", "--replay", "0.3", "--learning-rate", "1e-3"]
    assert main(["train", *common, *tune, "--steps", "30"]) == 0
    lesson = ["learn", str(day / "model"), str(day / "code-data"), "--domain", "code", "--sequence-length", "64"]
    assert main([*lesson, "--steps", "40", "--max-bytes", "20000"]) == 0
    return day / "model"


def test_f01_a_byte_level_bpe_tokenizer_is_trained_and_loads_in_transformers(trained: Path, day: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(day / "tok")
    text = "def main():\n\treturn 2026  # naïve 日本\n"
    assert len(theirs) == 1000 and theirs.decode(theirs.encode(text)) == text


def test_f05_training_is_recorded_with_settings_that_reproduce_it(trained: Path) -> None:
    run = trained / "runs" / "0001-pretrain"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 161))
    assert rows[-1]["gate_bits_per_byte"] < rows[15]["gate_bits_per_byte"]
    assert "sequence_length: 64" in (run / "resolved_settings.yaml").read_text()


def test_f07_a_lesson_is_learned_and_recorded(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = as_json(capsys, "matrix", trained)
    assert matrix["domains"] == ["prose", "chat", "code"] and matrix["sessions"] == ["start", "chat", "code"]
    _, start, after = matrix["bpb"]  # chat tuning is a session too
    assert after[2] < start[2]  # learned
    assert after[0] < 1.02 * start[0] and after[1] < 1.02 * start[1]  # and not forgotten
    assert {"bwt", "fwt", "average"} <= matrix.keys()
    history = lifelong(capsys, "history", trained)
    assert "code" in history and "prose" in history


def test_f10_text_is_generated_with_the_guides_defaults(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = lifelong(capsys, "generate", trained, "--prompt", "Return the", "--seed", 3)
    assert first == lifelong(capsys, "generate", trained, "--prompt", "Return the", "--seed", 3)
    assert len(first) > 30
    greedy = lifelong(capsys, "generate", trained, "--prompt", "Return the", "--temperature", 0, "--max_tokens", 8)
    assert greedy.startswith("Return the")


def test_f10_interactive_generation_reads_prompts(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["Return the", "Raise"])

    def answer(prompt: str = "") -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    assert len(lifelong(capsys, "generate", trained, "--interactive", "--max-tokens", 8, "--seed", 1)) > 10


def test_f12_a_model_is_evaluated_on_held_out_text(
    trained: Path, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, "evaluate", trained, "--data", day / "prose-data", "--max-bytes", 20000)
    assert {"loss", "perplexity", "bits_per_byte", "token_accuracy", "bytes", "tokens"} <= found.keys()
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * found["tokens"] / found["bytes"] / math.log(2))


def test_f43_a_chat_ends_its_turns_and_never_writes_a_role(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = as_json(capsys, "chat", trained, "--message", "What does `os.path.join` do?", "--seed", 1)
    assert "<|" not in json.dumps(answer)


def test_the_model_directory_loads_in_transformers_with_the_same_logits(trained: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lifelong.model.directory import load_model

    ours, tokenizer = load_model(trained, adapter=None)
    theirs = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    ids = tokenizer.encode("Return the name of the file.")
    assert AutoTokenizer.from_pretrained(trained).encode("Return the name of the file.") == ids
    with torch.no_grad():
        assert (theirs(torch.tensor([ids])).logits - ours(torch.tensor([ids]))).abs().max() < 1e-4


def test_a_rollback_brings_the_model_before_the_lesson_back(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "model")
    lifelong(capsys, "rollback", tmp_path / "model")
    assert as_json(capsys, "matrix", tmp_path / "model")["sessions"] == ["start", "chat"]
