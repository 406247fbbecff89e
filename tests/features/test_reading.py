"""Rows F27 and F37: whatever text a user has goes in, by the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lifelong import DataSource
from lifelong.cli.app import main
from lifelong.text import build_corpus, load_prepared


def _prepare(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["prepare", *map(str, arguments), "--tokenizer", "none", "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def _paragraph(n: int) -> str:
    words = ["lamp", "rock", "sea", "keeper", "tower", "oil", "gas", "storm", "ship", "signal", "fog", "horn"]
    return " ".join(words[(n * k + k * k) % len(words)] + str(n * k) for k in range(1, 25))


def _write_guide_files(folder: Path) -> None:
    """Write a file of every kind that guide D names."""
    (folder / "docs").mkdir()
    for n in range(6):
        (folder / "docs" / f"page{n}.md").write_text(f"---\ntitle: P{n}\n---\n# Page {n}\n\n{_paragraph(n)}\n")
        (folder / "docs" / f"note{n}.txt").write_text(f"{_paragraph(n + 10)}\n")
    qa = [{"question": f"What is {_paragraph(n + 20)}?", "answer": f"It is {_paragraph(n + 30)}."} for n in range(8)]
    (folder / "qa.json").write_text(json.dumps(qa, indent=2))
    (folder / "qa.jsonl").write_text(
        "".join(
            json.dumps({"question": f"{_paragraph(n + 40)}?", "answer": _paragraph(n + 50)}) + "\n" for n in range(8)
        )
    )
    chats = [
        {
            "messages": [
                {"role": "user", "content": _paragraph(n + 60)},
                {"role": "assistant", "content": _paragraph(n + 70)},
            ]
        }
        for n in range(8)
    ]
    (folder / "chats.json").write_text(json.dumps(chats))
    (folder / "documents.json").write_text(
        json.dumps([{"title": f"T{n}", "content": _paragraph(n + 80)} for n in range(8)])
    )


def test_f27_every_format_of_the_guide_in_one_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_guide_files(tmp_path)
    sources = [tmp_path / "docs", f"{tmp_path / 'qa.json'}:qa", f"{tmp_path / 'qa.jsonl'}:qa@2.0",
               f"{tmp_path / 'chats.json'}:chat", f"{tmp_path / 'documents.json'}:doc"]  # fmt: skip
    report = _prepare(*sources, "--out", tmp_path / "out", capsys=capsys)
    assert [(source["read"], source["kept"]) for source in report["sources"]] == [(12, 12), *[(8, 8)] * 4]
    corpus = load_prepared(tmp_path / "out")
    documents = [document for split in ("train", "gate", "test") for document in corpus.split(split)]
    assert sum(document.kind == "chat" for document in documents) == 24
    by_name = {document.name: document for document in documents}
    assert by_name["page0.md"].meta == {"title": "P0"}
    assert "title:" not in by_name["page0.md"].text
    assert {d.weight for d in documents if d.name == "qa.jsonl"} == {2.0}
    assert any(d.text.startswith("# T3\n\n") for d in documents)


def test_f27_sources_from_python_and_from_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_guide_files(tmp_path)
    sources = [
        DataSource(tmp_path / "docs", "markdown", weight=2.0),
        DataSource(tmp_path / "qa.json", "json", format="qa", weight=1.0),
    ]
    corpus = build_corpus(sources)
    assert [source["kept"] for source in corpus.report["sources"]] == [12, 8]
    (tmp_path / "sources.yaml").write_text(
        "- docs/:markdown@2.0\n- {path: qa.json, kind: json, format: qa, weight: 1.0}\n"
    )
    report = _prepare(tmp_path / "sources.yaml", "--out", tmp_path / "out", capsys=capsys)
    assert [(source["kind"], source["weight"], source["kept"]) for source in report["sources"]] == [
        ("markdown", 2.0, 12),
        ("json", 1.0, 8),
    ]
    (tmp_path / "sources.yaml").write_text("- {path: qa.json, fromat: qa}\n")
    assert main(["prepare", str(tmp_path / "sources.yaml"), "--out", str(tmp_path / "x")]) == 2
    assert "Did you mean 'format'" in capsys.readouterr().err


def test_f27_an_error_names_file_line_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "qa.jsonl").write_text(
        '{"question": "Why does the lamp burn?", "answer": "It has oil."}\n{"question": "Why?", "anwser": "So."}\n'
    )
    assert main(["prepare", f"{tmp_path}/qa.jsonl:qa", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/qa.jsonl:2" in error
    assert "'answer'" in error
    assert "'anwser'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_f37_a_roam_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(10):
        page = tmp_path / "roam" / f"area {n % 3}" / f"Page {n}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"- tags:: [[x{n}]]\n- {_paragraph(n)} on [[Page {n - 1}]]\n    - see ((block-{n}00))\n")
    (tmp_path / "roam" / "area 0" / "Blocks.md").write_text(
        "".join(f"- the block {n}\n  id:: block-{n}00\n" for n in range(8))
    )
    report = _prepare(f"{tmp_path / 'roam'}:roam", "--out", tmp_path / "out", capsys=capsys)
    (source,) = report["sources"]
    assert (source["read"], source["kept"]) == (11, 11)
    assert source["notes"]["block references that lead nowhere"]["count"] == 2
    corpus = load_prepared(tmp_path / "out")
    documents = {d.name: d for split in ("train", "gate", "test") for d in corpus.split(split)}
    assert "    - see the block 3" in documents["area 0/Page 3.md"].text
    assert "[[" not in documents["area 0/Page 3.md"].text
    assert documents["area 0/Page 3.md"].meta["attributes"] == {"tags": "x3"}


def test_f37_a_primer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [f"user: {_paragraph(n)}\nassistant: {_paragraph(n + 100)}" for n in range(60)]
    blocks[7] = blocks[9] = ""
    (tmp_path / "primer.txt").write_text("\n\n<dialogue>\n\n".join(blocks))
    arguments = (f"{tmp_path / 'primer.txt'}:primer", "--gate-fraction", "0.2", "--seed", "42")
    report = _prepare(*arguments, "--out", tmp_path / "a", capsys=capsys)
    (source,) = report["sources"]
    assert source["read"] == 58
    assert source["notes"]["empty blocks dropped"]["count"] == 2
    assert 5 <= report["splits"]["gate"]["documents"] <= 20
    corpus = load_prepared(tmp_path / "a")
    texts = {d.text.strip() for split in ("train", "gate", "test") for d in corpus.split(split)}
    assert texts == {block for block in blocks if block}
    _prepare(*arguments, "--out", tmp_path / "b", capsys=capsys)
    assert [d.text for d in load_prepared(tmp_path / "b").gate] == [d.text for d in corpus.gate]
