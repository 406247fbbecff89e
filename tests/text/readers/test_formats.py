"""What rows mean: every format, from every kind of file, detected or given; and what is wrong with a row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifelong.errors import LifelongError
from lifelong.text import DataSource
from lifelong.text.readers import list_files, read_file

Read = Callable[..., Any]
_USER, _ASSISTANT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}

FORMATS: dict[str, tuple[dict[str, Any], Any]] = {
    "chat": ({"messages": [_USER, _ASSISTANT]}, [_USER, _ASSISTANT]),
    "qa": ({"question": "Why?", "answer": "So."}, [_USER, _ASSISTANT]),
    "alpaca": ({"instruction": "Why?", "input": "", "output": "So."}, [_USER, _ASSISTANT]),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        [_USER, _ASSISTANT],
    ),
    "completion": ({"prompt": "Why?", "completion": "So."}, [_USER, _ASSISTANT]),
    "documents": ({"text": "Why? So."}, "Why? So."),
}


def _table(rows: list[dict[str, Any]], mark: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=mark)
    writer.writeheader()
    writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows)
    return out.getvalue()


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    suffix = path.suffix
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return
    text = {
        ".jsonl": lambda: "".join(json.dumps(row) + "\n" for row in rows),
        ".json": lambda: json.dumps(rows, indent=2),
        ".csv": lambda: _table(rows, ","),
        ".tsv": lambda: _table(rows, "\t"),
    }[suffix]()
    path.write_text(text, encoding="utf-8", newline="")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_every_container(name: str, suffix: str, tmp_path: Path, read: Read) -> None:
    row, meaning = FORMATS[name]
    path = tmp_path / f"rows{suffix}"
    _write(path, [{**row, "id": "x1"}, row | {"id": "x2"}])
    container = suffix[1:]
    for options in ({}, {"kind": name}, {"kind": container}, {"kind": container, "format": name}):
        documents, problems = read(path, **options)
        assert not problems
        assert [document.meta for document in documents] == [{"id": "x1"}, {"id": "x2"}]
        for document in documents:
            if name == "documents":
                assert (document.text, document.kind, document.messages) == (meaning, "text", None)
            else:
                assert (list(document.messages), document.kind, document.text) == (meaning, "chat", "Why?\nSo.")
            assert document.line is not None


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"question": "Why?", "answer": "So.", "context": "A text."}, ["A text.\n\nWhy?", "So."]),
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, ["Add.\n\n1 2", "3"]),
        ({"instruction": "Sum up.", "context": "A text.", "response": "It."}, ["Sum up.\n\nA text.", "It."]),
        ({"system": "Be kind.", "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}]},
         ["Be kind.", "a", "b"]),
        ({"conversation": [{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}]}, ["a", "b"]),
        ({"prompt": [_USER], "completion": [_ASSISTANT]}, ["Why?", "So."]),
    ],
)  # fmt: skip
def test_variants(row: dict[str, Any], messages: list[str], tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (document,), _ = read(tmp_path / "a.jsonl")
    assert [message["content"] for message in document.messages] == messages
    assert document.meta == {}


def test_a_document_with_a_title_is_headed_by_it(tmp_path: Path, read: Read) -> None:
    row = {"title": "On\nLamps", "content": "```sh\nls\n```\n", "split": "validation", "tags": ["a"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"text": "x", "title": "T", "split": "odd"}))
    documents, _ = read(tmp_path / "a.jsonl")
    assert (documents[0].text, documents[0].kind) == ("# On Lamps\n\n```sh\nls\n```\n", "markdown")
    assert documents[0].meta == {"title": "On\nLamps", "split": "gate", "tags": ["a"]}
    assert (documents[1].text, documents[1].meta) == ("x", {"title": "T", "split_given": "odd"})


@pytest.mark.parametrize(
    ("row", "rule", "message"),
    [
        ({"qestion": "Why?", "answer": "So."}, "missing-key", "no 'question'.* Is 'qestion' meant"),
        ({"body": "x"}, "missing-key", r"no 'text' \(its keys: body\)"),
        ({"question": "Why?", "answer": None}, "wrong-type", "'answer' must be a string, not null"),
        ({"question": "Why?", "answer": ["So."]}, "wrong-type", "'answer' must be a string, not a list"),
        ({"messages": "hi"}, "wrong-type", "'messages' must be a list"),
        ({"messages": ["hi"]}, "wrong-type", "message 1 must be an object, not a string"),
        ({"messages": []}, "empty-messages", "at least one message"),
        ({"messages": [{"role": "user", "content": "  "}]}, "empty-messages", "all messages are empty"),
        ({"messages": [{"role": "user", "content": 3}]}, "wrong-type", "needs a string 'content', not a number"),
        ({"messages": [_USER, {"content": "x"}]}, "missing-key", "message 2 has no 'role'"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "unknown-role", "role 'bot'"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "unknown-role", "role 'tool'"),
        (["x"], "wrong-type", "must be a JSON object, not a list"),
    ],
)
def test_a_bad_row_costs_that_row_only(row: Any, rule: str, message: str, tmp_path: Path, read: Read) -> None:
    good = {"question": "a", "answer": "b"} if isinstance(row, dict) and "answer" in row else {"text": "x"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(item) + "\n" for item in (good, row, good)))
    documents, (problem,) = read(tmp_path / "a.jsonl")
    assert [document.line for document in documents] == [1, 3]
    assert (problem.rule, problem.where, problem.fatal) == (rule, f"{tmp_path}/a.jsonl:2", False)
    with pytest.raises(LifelongError, match=message):
        raise problem


def test_what_messages_hold_besides_is_counted(tmp_path: Path) -> None:
    rows = [{"messages": [_USER | {"name": "Ann"}, _ASSISTANT | {"name": "B", "weight": 1}]}] * 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    listing = list_files(DataSource(tmp_path))
    assert len(list(read_file(listing.files[0]))) == 2
    assert listing.files[0].notes == {"key 'name' of messages left out": 4, "key 'weight' of messages left out": 2}


def test_squad_becomes_questions_with_their_paragraph(sample: Callable[[str], bytes], tmp_path: Path) -> None:
    (tmp_path / "squad.json").write_bytes(sample("squad.json"))
    listing = list_files(DataSource(tmp_path))
    (document,) = read_file(listing.files[0])
    assert document.messages is not None
    assert document.messages[0]["content"].startswith("A lighthouse keeps")
    assert document.messages[0]["content"].endswith("\n\nWhat?")
    assert document.meta == {"title": "L", "id": "1"}
    assert listing.files[0].notes == {"questions without an answer left out": 1}


def test_tables(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufeffQuestion; Answer ;n\r\n"a; ""b""\r\nc";d;1\r\n\r\nx;y\r\ne;f;2\r\n', newline="")
    documents, (problem,) = read(path)
    assert [document.messages[0]["content"] for document in documents] == ['a; "b"\r\nc', "e"]
    assert [(document.line, document.meta) for document in documents] == [(2, {"n": "1"}), (6, {"n": "2"})]
    assert (problem.rule, problem.where) == ("bad-table", f"{path}:5")
    path.write_text("body,n\nx,1\ny,2\n")
    _, (problem,) = read(path)
    assert (problem.rule, problem.where, problem.fatal) == ("missing-key", f"{path}:1", True)
    path.write_text("text,text\nx,1\n")
    assert read(path)[1][0].rule == "duplicate-key"
    path.write_text('text,n\nok,1\n"bad" quotes,2\nfine,3\n')
    documents, (problem,) = read(path)
    assert [document.text for document in documents] == ["ok", "fine"]
    assert (problem.rule, problem.where) == ("bad-table", f"{path}:3")
    path.write_text('text\n"never closed\n')
    assert read(path)[1][0].rule == "bad-table"


def test_parquet_in_batches_and_not_parquet(tmp_path: Path, read: Read) -> None:
    rows = [{"text": f"Row {n}.", "score": n / 2} for n in range(1000)]
    _write(tmp_path / "a.parquet", rows)
    documents, _ = read(tmp_path / "a.parquet")
    assert [document.text for document in documents] == [row["text"] for row in rows]
    assert documents[-1].meta == {"score": 499.5}
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-40])
    assert read(tmp_path / "b.parquet")[1][0].rule == "bad-file"
