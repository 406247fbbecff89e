"""Retrieval from the command line and from Python, as guide C's reader uses it."""

from __future__ import annotations

import itertools
import json
import pydoc_data.topics as topics
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong import DocumentProcessor, RAGModel, SimpleDocumentStore, load_model_and_tokenizer
from lifelong.cli.app import main
from lifelong.model.directory import write_model_files
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens import BPETokenizer

_SHAPE = {"d_model": 32, "num_layers": 1, "num_query_heads": 2, "num_kv_heads": 1, "max_seq_len": 512}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this Python's documentation, and a small untrained model."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("retrieval")
    (root / "docs").mkdir()
    for name in ("assert", "lambda", "with", "try"):
        (root / "docs" / f"{name}.md").write_text(f"---\ntitle: x\n---\n# {name}\n\n{topics.topics[name]}", "utf-8")
    (root / "docs" / "rows.jsonl").write_text(
        '{"text": "The walrus assigns within an expression."}\n{"text": "A decorator wraps a function."}\n'
    )
    tokenizer = BPETokenizer(600).train(list(topics.topics.values())[:20])
    write_model_files(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **_SHAPE)), tokenizer, root / "model")
    return root


def _json(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_f21_every_method_splits_real_text() -> None:
    text = "# Python\n\n" + "\n\n".join(topics.topics[name] for name in ("assert", "try", "with"))
    counts = {}
    for method in ("paragraph", "sentence", "chunk", "semantic", "regex"):
        pattern = r"\n(?=The )" if method == "regex" else None
        chunks = DocumentProcessor.split_text(text, method=method, min_length=50, max_length=500, pattern=pattern)
        assert all(text[chunk.start : chunk.end] == chunk and len(chunk) <= 500 for chunk in chunks)
        counts[method] = len(chunks)
    assert counts["sentence"] > counts["paragraph"] > counts["semantic"]
    overlapping = DocumentProcessor.split_text(text, method="chunk", max_length=500, overlap=100)
    assert all(two.start < one.end for one, two in itertools.pairwise(overlapping))


def test_f22_a_store_is_filled_embedded_saved_loaded_and_searched(tmp_path: Path) -> None:
    doc_store = SimpleDocumentStore(embedding_dim=64)
    for name in ("assert", "lambda", "with"):
        chunks = DocumentProcessor.split_text(topics.topics[name], method="semantic", min_length=50, max_length=500)
        doc_store.add_documents(chunks)
    doc_store.compute_embeddings()
    doc_store.save(str(tmp_path / "data" / "document_store.pkl"))
    loaded = SimpleDocumentStore.load(str(tmp_path / "data" / "document_store.pkl"))
    assert len(loaded) == len(doc_store) and loaded.embedding_dim == 64
    for mode in ("keyword", "vector", "hybrid"):
        hits = loaded.search("What do lambda expressions create?", top_k=3, mode=mode)
        assert len(hits) == 3 and "ambda" in hits[0].text
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_f23_a_question_is_answered_from_python(place: Path) -> None:
    # As guide C has it.
    model, tokenizer = load_model_and_tokenizer(str(place / "model"))
    doc_store = SimpleDocumentStore(embedding_dim=256)
    with open(place / "docs" / "lambda.md") as f:  # noqa: PTH123
        text = f.read()
    chunks = DocumentProcessor.split_text(text, method="semantic", min_length=50, max_length=500)
    doc_store.add_documents(chunks)
    doc_store.compute_embeddings()
    rag_model = RAGModel(doc_store, model)
    response = rag_model.generate(query="What is a lambda?", top_k=3, max_length=20, temperature=0.7)
    assert isinstance(response, str) and response.found
    assert tokenizer.vocab_size == model.config.vocab_size
    assert response.sources[0].text in response.prompt


def test_f22_a_folder_is_indexed_and_kept_up_with(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "docs", tmp_path / "docs")
    words = ("index", tmp_path / "docs", "--store", tmp_path / "store", "--max-length", "400")
    first = _json(capsys, *words)
    assert (first["added"], first["unchanged"]) == (5, 0) and first["chunks"] == first["chunks_in_store"] > 20
    again = _json(capsys, *words)
    assert (again["unchanged"], again["chunks"], again["chunks_removed"]) == (5, 0, 0)

    (tmp_path / "docs" / "try.md").unlink()
    (tmp_path / "docs" / "with.md").write_text("# with\n\nIt is about a platypus now.\n")
    (tmp_path / "docs" / "new.txt").write_text("A new text about marmots.\n")
    (tmp_path / "docs" / "broken.json").write_text('{"a": ')
    later = _json(capsys, *words)
    assert [later[name] for name in ("added", "changed", "unchanged", "removed")] == [2, 1, 3, 1]
    assert sum(later["problems"].values()) == 1 and "broken.json" in later["examples"][0]
    hits = _json(capsys, "search", tmp_path / "store", "platypus")["hits"]
    assert [hit["source"] for hit in hits] == [str(tmp_path / "docs" / "with.md")]
    assert not _json(capsys, "search", tmp_path / "store", "except clause finally handler", "--source", "*try*")["hits"]
    # Another way of splitting is another index; what cannot be read is tried again.
    smaller = _json(capsys, *words[:-1], "300")
    assert smaller["changed"] == 6 and smaller["unchanged"] == 0


def test_f22_places_are_those_of_the_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _json(capsys, "index", place / "docs", "--store", tmp_path / "store")
    for query in ("lambda anonymous functions", "assert statement debug", "walrus", "decorator"):
        hit = _json(capsys, "search", tmp_path / "store", query, "--top-k", 1)["hits"][0]
        path = Path(hit["source"])
        whole = path.read_text("utf-8")
        if path.suffix == ".jsonl":
            row = json.loads(whole.splitlines()[hit["line"] - 1])["text"]
            assert row[hit["start"] : hit["end"]] == hit["text"]
            continue
        assert whole[hit["start"] : hit["end"]] == hit["text"]
        lines = "\n".join(whole.split("\n")[hit["line"] - 1 : hit["last_line"]])
        assert hit["text"] in lines and whole.index("# ") <= hit["start"]
    assert main(["search", str(tmp_path / "store"), "walrus"]) == 0
    assert "rows.jsonl:1" in capsys.readouterr().out


def test_f21_headings_are_read_by_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.adoc").write_text("= Kettle\n\n== Boiling\n\n# not a title\n\nWater boils in it.\n")
    (tmp_path / "docs" / "b.txt").write_text("A script:\n\n# remove what is left\nrm -r build\n\nThe oven is clean.\n")
    _json(capsys, "index", tmp_path / "docs", "--store", tmp_path / "s", "--embedder", "hashed", "--min-length", 0,
          "--method", "paragraph")  # fmt: skip
    for query, titles in (("water boils", ["Kettle", "Boiling"]), ("oven clean", [])):
        hits = _json(capsys, "search", tmp_path / "s", query)["hits"]
        assert hits[0]["headings"] == titles


def test_f23_ask_answers_and_cites_without_the_network(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no socket is needed here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    store = tmp_path / "store"
    _json(capsys, "index", place / "docs", "--store", store, "--embedder", "hashed")
    ask = ("ask", place / "model", store)
    result = _json(capsys, *ask, "What is a lambda expression?", "--max-tokens", 8, "--seed", 1, "--mode", "hybrid")
    assert result["found"] and "lambda.md" in " ".join(source["source"] for source in result["sources"])
    nothing = _json(capsys, *ask, "xyzzy?", "--mode", "keyword")
    assert not nothing["found"] and nothing["answer"].startswith("Not found") and nothing["sources"] == []
    assert main([*map(str, ask), "What is a lambda expression?", "--max-tokens", "8", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert "Sources:\n[1] " in out and "lambda.md:" in out


def test_f22_rag_eval_measures(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _json(capsys, "index", place / "docs", "--store", tmp_path / "store", "--embedder", "hashed")
    rows = []
    for name, question in (("lambda", "anonymous functions"), ("assert", "debugging assertions into a program")):
        text = (place / "docs" / f"{name}.md").read_text("utf-8")
        start = text.index(topics.topics[name][:20])
        reference = {"source": f"{name}.md", "start": start, "end": start + 200}
        rows.append({"question": question, "references": [reference]})
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = _json(capsys, "rag-eval", tmp_path / "store", tmp_path / "questions.jsonl")
    assert set(found["modes"]) == {"keyword", "vector", "hybrid"} and found["questions"] == 2
    assert found["modes"]["keyword"]["ndcg"] > 0.5
    assert main(["rag-eval", str(tmp_path / "store"), str(tmp_path / "questions.jsonl")]) == 0
    assert "ndcg@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["search", "{root}/none", "x"], "no such document store"),
        (["search", "{root}/docs", "x"], "not a document store"),
        (["index", "{root}/docs", "--store", "{root}/docs"], "did not make"),
        (["index", "{root}/docs", "--store", "{root}/s", "--method", "regex"], "needs one"),
        (["index", "{root}/docs", "--store", "{root}/s", "--embedder", "{root}/model"], "both directions"),
        (["ask", "{root}/model", "{root}/none", "???"], "no word"),
    ],
)
def test_f22_mistakes_are_named(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str) -> None:
    assert main([word.format(root=place) for word in words]) == 2
    assert named in capsys.readouterr().err
