"""Data sets of the hub, from small local copies in exactly their columns, through the `datasets` library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from lifelong.errors import LifelongError
from lifelong.text import DataSource, Document
from lifelong.text.document import BadInput
from lifelong.text.readers import list_files, read_file

WIKI = [
    "",
    " = Robert Boulter = \n",
    "",
    " Robert Boulter is an English film , television and theatre actor . \n",
    " = not a heading = \n",
    "",
    " = = Career = = \n",
    "",
    " = = = 2000 – 2005 = = = \n",
    " In 2000 he had a guest role . \n",
    "",
    " = Du Fu = \n",
    "",
    " Du Fu was a prominent Chinese poet . \n",
]


def _message(name: str, parent: str | None, text: str, rank: int | None = None, **other: Any) -> dict[str, Any]:
    """Return a row of OASST1, with all of its columns."""
    depth = {"q": "prompter", "a": "assistant"}[name[0]]
    return {
        "message_id": name, "parent_id": parent, "user_id": "u", "created_date": "2023-02-05T14:23:50.983374+00:00",
        "text": text, "role": depth, "lang": "en", "review_count": 3, "review_result": True, "deleted": False,
        "rank": rank, "synthetic": False, "model_name": None,
        "detoxify": {"toxicity": 0.00044, "severe_toxicity": 3.2e-05, "obscene": 0.0002, "identity_attack": 0.0001,
                     "insult": 0.0002, "threat": 3e-05, "sexual_explicit": 2e-05},
        "message_tree_id": other.pop("tree", "q1"), "tree_state": "ready_for_export",
        "emojis": {"name": ["+1"], "count": [10]}, "labels": {"name": ["spam"], "value": [0.0], "count": [3]},
    } | other  # fmt: skip


OASST = [
    _message("q1", None, "What is a lamp?"),
    _message("a1", "q1", "A worse answer.", 1),
    _message("a2", "q1", "The best answer.", 0),
    _message("a3", "q1", "A deleted answer.", -1, deleted=True),
    _message("q2", "a2", "And then?", None),
    _message("a4", "q2", "The end.", None),
    _message("q3", "a4", "A last word without a reply."),
    _message("q4", None, "Nobody answers.", tree="q4"),
    _message("a5", "missing", "An orphan.", 0),
]


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFELONG_HUB_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path


def _read(spec: str) -> tuple[list[Document], list[BadInput], dict[str, int]]:
    problems: list[BadInput] = []
    listing = list_files(DataSource.parse(spec))
    documents = list(read_file(listing.files[0], problems.append))
    return documents, problems, dict(listing.files[0].notes)


def test_fineweb_edu(hub: Path) -> None:
    row = {
        "text": "Lamps shine.", "id": "<urn:uuid:1>", "dump": "CC-MAIN-2013-20", "url": "http://x", "date": "2013",
        "file_path": "s3://x", "language": "en", "language_score": 0.97, "token_count": 3, "score": 3.5, "int_score": 4,
    }  # fmt: skip
    _parquet(hub / "fineweb-edu" / "train-00000-of-00001.parquet", [row, row | {"text": "Rocks do not."}])
    for spec in ("hf:fineweb-edu", "hf:HuggingFaceFW/fineweb-edu:sample-10BT@0.5"):
        documents, problems, _ = _read(spec)
        assert not problems
        assert [document.text for document in documents] == ["Lamps shine.", "Rocks do not."]
        assert documents[0].meta == {"id": "<urn:uuid:1>", "url": "http://x", "score": 3.5}
        assert documents[1].line == 2
    assert documents[0].weight == 0.5


def test_wikitext_lines_become_articles(hub: Path) -> None:
    for split in ("train", "validation", "test"):
        _parquet(hub / "wikitext-103" / f"{split}-00000-of-00001.parquet", [{"text": line} for line in WIKI])
    documents, problems, _ = _read("hf:wikitext-103")
    assert not problems
    assert [(d.meta["title"], d.meta["split"]) for d in documents] == [
        (title, split) for split in ("train", "gate", "test") for title in ("Robert Boulter", "Du Fu")
    ]
    first = documents[0].text
    assert first.startswith(" = Robert Boulter = \n\n Robert Boulter is")
    assert " = not a heading = \n" in first
    assert " = = Career = = \n" in first
    assert "Du Fu" not in first
    lines = [line if line.endswith("\n") else line + "\n" for line in WIKI[1:]]
    assert "".join(d.text for d in documents[:2]) == "".join(lines)


def test_dolly(hub: Path) -> None:
    rows = [
        {"instruction": "Who?", "context": "Ann was there.", "response": "Ann.", "category": "closed_qa"},
        {"instruction": "Why?", "context": "", "response": "So.", "category": "open_qa"},
        {"instruction": "Why?", "context": "", "response": None, "category": "open_qa"},
    ]
    file = hub / "dolly-15k" / "databricks-dolly-15k.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents, (problem,), _ = _read("hf:dolly-15k")
    assert documents[0].messages == (
        {"role": "user", "content": "Who?\n\nAnn was there."},
        {"role": "assistant", "content": "Ann."},
    )
    assert documents[1].messages is not None
    assert documents[1].messages[0]["content"] == "Why?"
    assert [document.meta for document in documents] == [{"category": "closed_qa"}, {"category": "open_qa"}]
    assert (problem.rule, problem.where) == ("wrong-type", "hf:dolly-15k:3")


def test_oasst_trees_become_their_best_conversation(hub: Path) -> None:
    _parquet(hub / "oasst1" / "train-00000-of-00001.parquet", OASST)
    _parquet(hub / "oasst1" / "validation-00000-of-00001.parquet", OASST[:3])
    documents, problems, notes = _read("hf:oasst1")
    assert not problems
    by_split = {document.meta["split"]: document for document in documents}
    assert [m["content"] for m in by_split["train"].messages or ()] == [
        "What is a lamp?", "The best answer.", "And then?", "The end.",
    ]  # fmt: skip
    assert [m["role"] for m in by_split["train"].messages or ()] == ["user", "assistant"] * 2
    assert [m["content"] for m in by_split["gate"].messages or ()] == ["What is a lamp?", "The best answer."]
    assert by_split["train"].meta["lang"] == "en"
    assert notes == {
        "deleted messages left out": 1,
        "messages whose parent is missing left out": 1,
        "conversations without a reply left out": 1,
    }


def test_any_other_data_set_by_its_columns(hub: Path) -> None:
    _parquet(hub / "someone" / "notes" / "train.parquet", [{"content": "Words.", "n": 1}])
    documents, _, _ = _read("hf:someone/notes")
    assert [(d.text, d.meta, d.name, d.place) for d in documents] == [
        ("Words.", {"n": 1}, "hf:someone/notes/train", "hf:someone/notes/train:1")
    ]


def test_a_data_set_that_is_not_there(hub: Path) -> None:
    with pytest.raises(LifelongError, match="no local copy of the data set 'nobody/nothing'"):
        list(read_file(list_files(DataSource("hf:nobody/nothing")).files[0]))
    (hub / "broken").mkdir()
    (hub / "broken" / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(LifelongError, match="the data set cannot be read"):
        list(read_file(list_files(DataSource("hf:broken")).files[0]))


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFELONG_HUB_DIR", raising=False)
    with pytest.raises(LifelongError, match="cannot be read") as caught:
        list(read_file(list_files(DataSource("hf:nobody/nothing")).files[0]))
    assert "LIFELONG_HUB_DIR" in str(caught.value)
