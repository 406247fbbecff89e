"""Sources and readers: what is read, and how each bad input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.text import DataSource, read_sources
from lifelong.text.document import BadInput
from lifelong.text.readers import list_files, read_file


def _chat(*contents: str) -> str:
    roles = ("user", "assistant")
    return json.dumps({"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]})


@pytest.mark.parametrize(
    ("spec", "path", "kind", "weight"),
    [
        ("docs/", "docs/", None, 1.0),
        ("docs/:markdown", "docs/", "markdown", 1.0),
        ("docs/@2.5", "docs/", None, 2.5),
        ("docs/*.md:markdown@2.0", "docs/*.md", "markdown", 2.0),
        ("C:/notes/a.txt", "C:/notes/a.txt", None, 1.0),
        ("mail:me@home/x.txt", "mail:me@home/x.txt", None, 1.0),
        ("notes@work", "notes@work", None, 1.0),
    ],
)
def test_source_specs(spec: str, path: str, kind: str | None, weight: float) -> None:
    source = DataSource.parse(spec)
    assert (str(source.path), source.kind, source.weight) == (path, kind, weight)


def test_an_existing_path_is_taken_whole(tmp_path: Path) -> None:
    odd = tmp_path / "a:text@2.0"
    odd.write_text("words")
    assert DataSource.parse(str(odd)).path == str(odd)


def test_unknown_kind_names_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="Did you mean 'markdown'"):
        DataSource.parse(f"{tmp_path}:markdwon")
    with pytest.raises(LifelongError, match="not a positive number"):
        DataSource.parse(f"{tmp_path}@0")
    with pytest.raises(LifelongError, match="not a positive number"):
        DataSource.parse(f"{tmp_path}@many")
    assert DataSource("x", format="chat").kind == "chat"
    with pytest.raises(LifelongError, match="contradict"):
        DataSource("x", "text", format="chat")


def test_a_folder_is_read_sorted_and_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b" / "two.md").write_text("# Two\n")
    (tmp_path / "a.txt").write_text("\ufeffone")
    (tmp_path / "c.py").write_text("x = 1\n")
    (tmp_path / "d.jsonl").write_text(_chat("hi", "ho") + "\n\n" + json.dumps({"text": "three"}) + "\n")
    (tmp_path / "e.png").write_bytes(b"\0")
    (tmp_path / "f.txt").write_text("")
    listing = list_files(DataSource(tmp_path))
    assert dict(listing.skipped) == {"hidden": 1, ".png": 1, "empty file": 1}
    documents = list(read_sources([DataSource(tmp_path, weight=2.0)]))
    assert [(d.name, d.kind, d.line) for d in documents] == [
        ("a.txt", "text", None),
        ("b/two.md", "markdown", None),
        ("c.py", "code", None),
        ("d.jsonl", "chat", 1),
        ("d.jsonl", "text", 3),
    ]
    assert documents[0].text == "one"
    assert documents[3].text == "hi\nho"
    assert documents[3].messages == ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
    assert {d.weight for d in documents} == {2.0}


def test_a_glob_names_files_below_its_root(tmp_path: Path) -> None:
    for name in ("x/a.md", "x/y/b.md", "x/.hidden/c.md", "x/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert [d.name for d in read_sources([f"{tmp_path}/x/**/*.md"])] == ["a.md", "y/b.md"]


def test_json_file_of_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(f"[{_chat('a', 'b')},\n\n {_chat('c', 'd')}]")
    assert [d.line for d in read_sources([file])] == [1, 3]
    file.write_text("3")
    with pytest.raises(LifelongError, match="list of objects"):
        list(read_sources([file]))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="no such file") as caught:
        list(read_sources([tmp_path / "nothing.txt"]))
    assert caught.value.where == str(tmp_path / "nothing.txt")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(LifelongError, match="empty"):
        list(read_sources([tmp_path / "empty.txt"]))


def test_folder_with_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\0")
    with pytest.raises(LifelongError, match=r"no readable text here \(passed over: 1 x .png\)"):
        list(read_sources([tmp_path]))
    with pytest.raises(LifelongError, match="no readable text"):
        list(read_sources([f"{tmp_path}/*.md"]))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_binary_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"abc\0def\n")
    with pytest.raises(LifelongError, match="binary") as caught:
        list(read_sources([tmp_path]))
    assert caught.value.where == str(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt", "a.py", "a.jsonl", "a.json"])
def test_file_that_is_not_utf8_names_the_line(tmp_path: Path, name: str) -> None:
    good = json.dumps({"text": "fine"}).encode()
    (tmp_path / name).write_bytes(good + b"\n" + good + b"\n" + "f\xfcr".encode("latin-1") + b"\n")
    with pytest.raises(LifelongError, match=r"not UTF-8 \(byte 0xfc\)") as caught:
        list(read_sources([tmp_path / name]))
    assert caught.value.where == f"{tmp_path / name}:3"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": ', "not valid JSON"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        ("[1]", "must be a JSON object"),
        ('{"question": "?"}', r"no 'text' \(its keys: question\)"),
        ('{"text": 3}', "must be a string"),
        ('{"text": "half \\ud800"}', "surrogate"),
        ('{"messages": []}', "at least one message"),
        ('{"messages": [{"role": "user"}]}', "message 1 has no 'content'"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "role 'robot'"),
    ],
)
def test_bad_rows_name_the_line(tmp_path: Path, row: str, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "good"}\n' + row + "\n")
    with pytest.raises(LifelongError, match=message) as caught:
        list(read_sources([file]))
    assert caught.value.where == f"{file}:2"


def test_files_of_a_folder_that_hold_no_rows_are_passed_over_and_counted(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1.0"}')
    (tmp_path / "numbers.json").write_text("[1, 2, 3]")
    (tmp_path / "spans.csv").write_text("query,span\nwhat,that\n")
    (tmp_path / "good.jsonl").write_text('{"text": "A row that is read."}\n{"txt": "A row that is not."}\n')
    listing = list_files(DataSource(tmp_path))
    problems: list[BadInput] = []
    documents = [document for file in listing.files for document in read_file(file, problems.append)]
    assert [document.text for document in documents] == ["A row that is read."]
    assert [problem.where for problem in problems] == [f"{tmp_path / 'good.jsonl'}:2"]  # its file is one of rows
    passed = "rows of no known format passed over"
    assert [file.path.name for file in listing.files if file.notes[passed]] == [
        "numbers.json",
        "package.json",
        "spans.csv",
    ]
    with pytest.raises(BadInput, match="no known format"):  # named by itself, it is meant
        next(read_file(list_files(DataSource(tmp_path / "spans.csv")).files[0]))
