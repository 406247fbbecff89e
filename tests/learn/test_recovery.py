"""What is said of a lesson that was killed, by who only reads the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lifelong.learn.recovery import mention

RUNNING = json.dumps({"status": "running", "again": "lifelong learn m sea.txt --domain sea"})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a lesson that was killed."""
    run = tmp_path / "runs" / "0002-learn-sea"
    run.mkdir(parents=True)
    (run / "run.json").write_text(RUNNING)
    return run


def test_a_killed_lesson_is_named_with_the_command_that_does_it_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mention(tmp_path)
    assert "runs/0002-learn-sea was cut off" in (said := capsys.readouterr().err)
    assert "lifelong learn m sea.txt --domain sea" in said and (run / "run.json").read_text() == RUNNING


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{", b"[1]", b'{"status": "finished", "again": "x"}'])
def test_what_is_damaged_or_done_is_passed_over(
    run: Path, tmp_path: Path, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "run.json").write_bytes(text)
    mention(tmp_path)
    (tmp_path / "model.gguf").write_bytes(text)
    mention(tmp_path / "model.gguf")
    mention(tmp_path / "nowhere")
    (run / "run.json").write_text(RUNNING)
    (tmp_path / "lifelong").mkdir()
    (tmp_path / "lifelong" / "history.jsonl").write_bytes(b"\xff\xfe\n")
    mention(tmp_path)
    assert capsys.readouterr().err == ""
