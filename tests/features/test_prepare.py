"""`lifelong prepare`, from a user's files to a directory that is ready to train on."""

from __future__ import annotations

import inspect
import json
import pydoc_data.topics
import random
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main
from lifelong.text import load_prepared

_EXAMPLE = """```bash
$ helm  install   my-release  ./chart
    --set   image.tag=1.2
```"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Markdown with code, questions and answers, and a long text: Python's own documentation."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "docs").mkdir()
    topics = [
        item for item in pydoc_data.topics.topics.items() if "~~~" not in item[1]
    ]  # an underline there, a fence here
    for name, topic in topics[:60]:
        (folder / "docs" / f"{name}.md").write_text(f"# {name}\r\n\r\n{topic}\n\n\n\n\n{_EXAMPLE}\n", encoding="utf-8")
    pairs = []
    for module in (textwrap, random, inspect):
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and inspect.getdoc(value):
                pairs.append({"question": f"What does {module.__name__}.{name} do?", "answer": inspect.getdoc(value)})
    (folder / "qa.json").write_text(json.dumps(pairs), encoding="utf-8")
    return folder


def _prepare(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert main(["prepare", *map(str, arguments), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def prepared(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, dict[str, Any]]:
    out = tmp_path / "out"
    sources = (raw / "docs", f"{raw / 'qa.json'}:qa")
    return out, _prepare(capsys, *sources, "--out", out, "--max-length", "256", "--plain-text", "--vocab-size", "2000")


def test_f28_the_output_is_whole(prepared: tuple[Path, dict[str, Any]]) -> None:
    from transformers import AutoTokenizer

    out, report = prepared
    assert {path.name for path in out.iterdir()} >= {
        *(f"{split}.{suffix}" for split in ("train", "val", "test") for suffix in ("jsonl", "txt")),
        "dataset_metadata.json",
        "tokenizer",
    }
    metadata = json.loads((out / "dataset_metadata.json").read_text(encoding="utf-8"))
    assert metadata["sources"] == report["sources"] and len(metadata["sources"]) == 2
    documents = metadata["sources"][0]
    assert documents["read"] == 60 and documents["changed"]["blank lines"]["count"] > 0
    assert documents["changed"]["line ends"]["examples"]
    sizes = {split: facts["bytes"] for split, facts in metadata["splits"].items()}
    total = sum(sizes.values())
    assert 0.7 < sizes["train"] / total < 0.9 and min(sizes.values()) > 0.04 * total
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    for document in load_prepared(out).train:
        if not document.messages:
            assert len(tokenizer(document.text)["input_ids"]) <= 256


def test_f28_code_blocks_stay_to_the_letter(prepared: tuple[Path, dict[str, Any]]) -> None:
    corpus = load_prepared(prepared[0])
    texts = [document.text for split in ("train", "gate", "test") for document in corpus.split(split)]
    assert sum(text.count(_EXAMPLE) for text in texts) == sum(text.count("```bash") for text in texts) > 50
    assert not any("\r" in text or "\n\n\n\n" in text for text in texts)


def test_f28_conversations_stay_conversations(prepared: tuple[Path, dict[str, Any]]) -> None:
    out, report = prepared
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    chats = [row for row in rows if row["kind"] == "chat"]
    assert chats and all([m["role"] for m in row["messages"]] == ["user", "assistant"] for row in chats)
    assert report["lengths"]["max_length"] == 256 and report["lengths"]["cut"]["count"] > 0
    assert "User: What does" in (out / "train.txt").read_text(encoding="utf-8")


def test_f28_nothing_is_in_two_splits(prepared: tuple[Path, dict[str, Any]]) -> None:
    corpus = load_prepared(prepared[0])
    texts = {split: {" ".join(d.text.split()) for d in corpus.split(split)} for split in ("train", "gate", "test")}
    assert (
        not texts["train"] & texts["test"] and not texts["train"] & texts["gate"] and not texts["gate"] & texts["test"]
    )


def test_bad_rows_stop_it_or_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        json.dumps({"question": f"What is {n} plus {n}?", "answer": f"It is {2 * n}, of course."}) for n in range(90)
    ]
    rows[40], rows[41] = '{"question": "Broken', '{"question": "No answer?"}'
    (tmp_path / "qa.jsonl").write_text("\n".join(rows))
    command = ["prepare", f"{tmp_path / 'qa.jsonl'}:qa", "--out", str(tmp_path / "out"), "--tokenizer", "none"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "qa.jsonl:41" in said and "qa.jsonl:42" in said and "--skip-bad" in said
    assert not (tmp_path / "out").exists()
    report = _prepare(capsys, *command[1:], "--skip-bad")
    dropped = report["sources"][0]["dropped"]
    assert sum(found["count"] for found in dropped.values()) == 2
    assert sum(facts["documents"] for facts in report["splits"].values()) == 88


def test_f28_dry_run_writes_nothing(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    report = _prepare(capsys, raw / "docs", "--out", out, "--dry-run", "--tokenizer", "none")
    assert report["out"] is None and report["splits"]["train"]["documents"] > 0 and not out.exists()
