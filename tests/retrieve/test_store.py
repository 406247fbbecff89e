"""The document store: what is found, what is kept, and what happens to a store that others write or damage."""

from __future__ import annotations

import json
import os
import pydoc_data.topics as topics
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from lifelong.errors import LifelongError
from lifelong.retrieve.embedding import hashed
from lifelong.retrieve.passages import Hit, Passage
from lifelong.retrieve.splitting import DocumentProcessor
from lifelong.retrieve.store import SimpleDocumentStore, _fuse

_TOPICS = ("assert", "try", "lambda", "import", "with")


def _filled(folder: Path | None = None) -> SimpleDocumentStore:
    store = SimpleDocumentStore()
    for name in _TOPICS:
        store.add_documents(DocumentProcessor.split_text(topics.topics[name]), source=f"{name}.rst")
    if folder:
        store.save(folder)
    return store


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "kept"
    _filled(folder)
    return folder


def test_words_are_found_where_they_stand(kept: Path) -> None:
    hit = SimpleDocumentStore.load(kept).search("anonymous functions")[0]
    assert hit.passage.source == "lambda.rst"
    assert topics.topics["lambda"][hit.passage.start : hit.passage.end] == hit.text
    assert SimpleDocumentStore.load(kept).search("xyzzy") == []


def test_the_same_source_is_replaced_and_others_stay(tmp_path: Path) -> None:
    store = _filled(tmp_path / "s")
    before = len(store)
    assert store.add_documents(["Nothing but a walrus."], source="try.rst") == 1
    assert store.search("walrus")[0].passage.source == "try.rst"
    assert not any(hit.passage.source == "try.rst" for hit in store.search("except clause finally", 20))
    # Others see it only once it is saved.
    assert SimpleDocumentStore.load(tmp_path / "s").search("walrus") == []
    reader = SimpleDocumentStore.load(tmp_path / "s")
    store.save()
    assert reader.search("walrus") and len(reader) == len(store) < before
    assert store.delete(["try.rst"]) == 1
    assert store.search("walrus") == []


def test_texts_without_a_source_are_added_to_what_is_there() -> None:
    store = SimpleDocumentStore()
    store.add_documents(["one"])
    store.add_documents([{"text": "two", "source": "b"}, "three"])
    assert len(store) == 3 and store.search("two")[0].passage.place == "b[0:3]"
    with pytest.raises(LifelongError, match="a document is a text"):
        store.add_documents([3])  # type: ignore[list-item]


def test_filters_are_values_lists_and_beginnings(kept: Path) -> None:
    store = SimpleDocumentStore.load(kept)
    found = {hit.passage.source for hit in store.search("statement", 50, filters={"source": ["try.rst", "wi*"]})}
    assert found == {"try.rst", "with.rst"}
    assert store.search("statement", filters={"source": "' OR true --"}) == []
    with pytest.raises(LifelongError, match="no filter 'size'"):
        store.search("statement", filters={"size": "1"})


def test_every_mode_finds_and_vectors_stay_with_the_store(tmp_path: Path) -> None:
    store = _filled()
    with pytest.raises(LifelongError, match="no vectors"):
        store.search("x", mode="vector")
    assert "hashed words, 256" in store.compute_embeddings()
    query = "A lambda expression"
    words, vectors = store.search(query, 50), store.search(query, 50, mode="vector")
    assert {hit.passage.source for hit in (words[0], vectors[0])} == {"lambda.rst"}
    assert vectors[0].score == pytest.approx(
        float((hashed([vectors[0].text], 256) @ hashed([query], 256).T)[0, 0]), abs=1e-4
    )
    assert store.search(query, 5, mode="hybrid") == _fuse([words[:50], vectors[:50]])[:5]
    loaded = SimpleDocumentStore.load(store.save(tmp_path / "vectors.pkl"))
    assert (tmp_path / "vectors.pkl").is_dir()
    loaded.add_documents(["A new lambda expression"], source="new")  # gets its vector as well
    assert loaded.search(query, 1, mode="vector")[0].passage.source == "new"


def test_ranks_are_fused_as_by_hand() -> None:
    a, b, c = (Passage(text) for text in "abc")
    fused = _fuse([[Hit(a, 9.0), Hit(b, 1.0)], [Hit(b, 0.2), Hit(c, 0.1)]])
    assert [hit.passage for hit in fused] == [b, a, c]
    assert [hit.score for hit in fused] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_hashed_vectors_have_length_one_and_know_spellings() -> None:
    vectors = hashed(["playing cards", "played card", "quantum entropy", "?!"], 128)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_another_embedder_is_refused(tmp_path: Path) -> None:
    store = _filled()
    store.compute_embeddings()
    store.save(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["facts"]["embedder"]["fingerprint"] = "0" * 64
    manifest.write_text(json.dumps(facts))
    with pytest.raises(LifelongError, match="made by another embedder"):
        SimpleDocumentStore.load(tmp_path / "s").search("lambda", mode="hybrid")
    assert SimpleDocumentStore.load(tmp_path / "s").search("lambda")


@pytest.mark.parametrize(
    ("query", "named"),
    [("?!, ...", "holds no word"), ("", "holds no word"), ("why " * 250_000, "1,000,000 characters")],
)
def test_what_is_no_question_is_refused(kept: Path, query: str, named: str) -> None:
    with pytest.raises(LifelongError, match=named):
        SimpleDocumentStore.load(kept).search(query)


def test_words_that_are_commands_elsewhere_are_words(kept: Path) -> None:
    for query in ('"try', "a AND (", "field:x*", "-try +with ~2^3", "\\", "'; DROP TABLE chunks", "NOT", "\0 try"):
        try:
            SimpleDocumentStore.load(kept).search(query)
        except LifelongError as error:
            assert "holds no word" in str(error)


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "old.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(LifelongError, match="such a file can run any program"):
        SimpleDocumentStore.load(tmp_path / "old.pkl")
    with pytest.raises(LifelongError, match="no such document store"):
        SimpleDocumentStore.load(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(LifelongError, match="not a document store"):
        SimpleDocumentStore.load(tmp_path / "other")
    with pytest.raises(LifelongError, match="did not make"):
        SimpleDocumentStore().save(tmp_path / "other")
    with pytest.raises(LifelongError, match="is a file"):
        SimpleDocumentStore().save(tmp_path / "old.pkl")


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "garbled"])
def test_a_damaged_store_says_so(tmp_path: Path, damage: str) -> None:
    _filled(tmp_path / "s")
    largest = max((tmp_path / "s" / "chunks.lance" / "data").iterdir(), key=lambda path: path.stat().st_size)
    size = largest.stat().st_size
    if damage == "cut":
        os.truncate(largest, size // 2)
    elif damage == "gone":
        largest.unlink()
    elif damage == "manifest":
        (tmp_path / "s" / "manifest.json").write_text('{"kind": "document store", "format": 1}')
    else:
        largest.write_bytes(bytes(size))
    with pytest.raises(LifelongError, match="damaged"):
        SimpleDocumentStore.load(tmp_path / "s").search("lambda", 50)


_WRITER = """
    import sys, time
    from lifelong.retrieve.store import SimpleDocumentStore
    store = SimpleDocumentStore.load(sys.argv[1])
    store.add_documents(["a walrus, half written"], source="new")
    print("written", flush=True)
    time.sleep(600)
"""


def test_two_writers_and_one_that_is_killed(tmp_path: Path) -> None:
    _filled(tmp_path / "s")
    code = [sys.executable, "-c", textwrap.dedent(_WRITER), str(tmp_path / "s")]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "written\n"
            store = SimpleDocumentStore.load(tmp_path / "s")
            with pytest.raises(LifelongError, match=f"another process is writing here .pid {writer.pid}"):
                store.add_documents(["mine"], source="mine")
            assert store.search("lambda") and not store.search("walrus")
        finally:
            writer.kill()
    store = SimpleDocumentStore.load(tmp_path / "s")
    store.add_documents(["mine alone"], source="mine")
    store.save()
    again = SimpleDocumentStore.load(tmp_path / "s")
    assert again.search("mine alone")[0].passage.source == "mine" and not again.search("walrus")


def test_an_empty_store_is_one(tmp_path: Path) -> None:
    SimpleDocumentStore().save(tmp_path / "s")
    store = SimpleDocumentStore.load(tmp_path / "s")
    assert len(store) == 0 and store.search("anything") == []
    store.add_documents(["something"])
    store.save()
    assert len(SimpleDocumentStore.load(tmp_path / "s")) == 1
