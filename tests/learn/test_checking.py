from __future__ import annotations

import json
import pydoc_data.topics as topics
from pathlib import Path

import pytest

from lifelong.cli.app import main
from lifelong.errors import LifelongError
from lifelong.learn.checking import open_checked
from lifelong.text import DataSource, prepare
from lifelong.tokens.tokenizer import BPETokenizer


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(400).train(topics.topics.values())


def chats(path: Path, *answers: str, question: str = "What is it?") -> Path:
    path.write_text(
        "".join(
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": f"{question} {number}"},
                        {"role": "assistant", "content": answer},
                    ]
                }
            )
            + "\n"
            for number, answer in enumerate(answers)
        )
    )
    return path


def test_f17_errors_stop_a_lesson_and_are_named(tmp_path: Path, tokenizer: BPETokenizer) -> None:
    file = chats(tmp_path / "a.jsonl", *(f"It is the answer number {number}." for number in range(9)))
    assert len(open_checked([DataSource(file)], "chat", tokenizer, 64).train) > 3
    file.write_text(file.read_text() + '{"messages": [{"role": "robot", "content": "x"}]}\n{"text": 3}\n')
    with pytest.raises(LifelongError) as caught:
        open_checked([DataSource(file)], "chat", tokenizer, 64)
    assert f"a role that is none: 1 (such as {file}:10: " in str(caught.value)
    assert f"{file}:11" in str(caught.value)
    file.write_text('{"messages": []}\n')  # nothing else is left
    with pytest.raises(LifelongError, match="a conversation without messages: 1"):
        open_checked([DataSource(file)], "chat", tokenizer, 64)
    with pytest.raises(LifelongError, match="no such file"):
        open_checked([DataSource(tmp_path / "b.jsonl")], "chat", tokenizer, 64)


def test_f17_answers_beyond_the_row_stop_a_lesson_and_a_cut_one_is_noted(
    tmp_path: Path, tokenizer: BPETokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    long = chats(tmp_path / "a.jsonl", *(topics.topics["assert"][:300] + str(n) for n in range(9)))
    open_checked([DataSource(long)], "chat", tokenizer, 32)
    err = capsys.readouterr().err
    assert "note: conversations cut at --max-length: 9" in err
    assert "lifelong validate" in err
    question = topics.topics["assert"][:300]
    with pytest.raises(LifelongError, match="no answer within --max-length: 9"):
        open_checked([DataSource(chats(long, *"abcdefghi", question=question))], "chat", tokenizer, 32)
    open_checked([DataSource(long)], "chat", tokenizer, None)
    rows = long.read_text() + chats(tmp_path / "b.jsonl", "It is the one whose answer can be reached.").read_text()
    long.write_text(rows)
    assert open_checked([DataSource(long)], "chat", tokenizer, 32)
    assert "no answer within --max-length: 9" in capsys.readouterr().err


def test_f17_a_prepared_directory_is_checked_too(
    tmp_path: Path, tokenizer: BPETokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate(list(topics.topics.values())[:12]):
        (tmp_path / f"{number}.txt").write_text(text + "\nWrite to jane.doe@orange-mill.org.\n")
    prepare(str(tmp_path / "*.txt"), tmp_path / "ready")
    capsys.readouterr()
    corpus = open_checked([DataSource(tmp_path / "ready")], "manual", tokenizer, 64)
    assert {document.domain for document in corpus.train} == {"manual"}
    err = capsys.readouterr().err
    assert "note: personal data: 12" in err
    assert "jane.doe@orange-mill.org" not in err


def test_f17_a_lesson_with_errors_leaves_the_model_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait\n")
    files = sorted(model.rglob("*"))
    assert main(["learn", str(model), str(tmp_path / "a.txt"), "--domain", "menu"]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / 'a.txt'}:1" in err
    assert "nothing was taught" in err
    assert sorted(model.rglob("*")) == files
