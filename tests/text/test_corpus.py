"""Cleaning, deduplication, splitting, and the prepared directory."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.text import Document, build_corpus, is_prepared, load_prepared, open_corpus, prepare
from lifelong.text.cleaning import clean
from lifelong.text.cutting import cut
from lifelong.text.splitting import FEW_KEYS, assign

_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def _folder(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        (path / f"f{number:03d}.md").write_text(f"# File {number}\n\nThe text of file number {number}.\n")
    return path


def _names(documents: list[Document]) -> set[str]:
    return {document.name for document in documents}


def test_cleaning_keeps_code_fences() -> None:
    text = "# A  \r\n\r\n\r\n\r\n\r\nb\t\n```py\nx = 1  \n\n\n\n\ny\n```  \nend \n\n"
    tidy = clean(Document(text, "a.md", "a.md", "markdown"))[0].text
    assert tidy == "# A\n\n\nb\n```py\nx = 1  \n\n\n\n\ny\n```  \nend\n"
    code = clean(Document("x = 1  \r\n\r\n\r\n\r\n\r\n", "a.py", "a.py", "code"))[0].text
    assert code == "x = 1  \n\n\n\n\n"


@given(st.text(alphabet="ab \n`~\t\r"))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    for kind in ("text", "markdown", "code"):
        once, _ = clean(Document(text, "a", "a", kind))
        assert clean(once) == (once, {})
        assert once.text.split() == text.split()


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 60), st.sampled_from(["text", "code"]))
def test_pieces_join_to_the_whole(text: str, times: int, kind: str) -> None:
    document = Document(text * times, "a", "a", kind)
    pieces = list(cut(document))
    assert "".join(piece.text for piece in pieces) == document.text
    assert [piece.name for piece in pieces] == [f"a#{number:04d}" for number in range(1, len(pieces) + 1)]


@given(st.sets(st.text(max_size=8), max_size=120), st.integers(0, 5))
def test_every_key_gets_one_split(keys: set[str], seed: int) -> None:
    splits = assign(keys, (0.8, 0.1, 0.1), seed)
    assert splits.keys() == keys
    counts = [list(splits.values()).count(name) for name in ("train", "gate", "test")]
    if len(keys) >= 3:
        assert counts[0] > 0
    if 3 <= len(keys) < FEW_KEYS:
        assert min(counts) > 0
    if 0 < len(keys) < 3:
        assert counts[0] == len(keys)


def test_a_key_keeps_its_split_when_others_come() -> None:
    few = assign([f"k{i}" for i in range(60)], (0.8, 0.1, 0.1), 3)
    many = assign([f"k{i}" for i in range(1000)], (0.8, 0.1, 0.1), 3)
    assert all(many[key] == split for key, split in few.items())
    shares = [list(many.values()).count(name) / 1000 for name in ("train", "gate", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_splits_are_disjoint_and_repeatable(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 80)
    first, second = build_corpus(folder, domain="d", seed=1), build_corpus([folder], domain="d", seed=1)
    assert (first.train, first.gate, first.test) == (second.train, second.gate, second.test)
    names = [_names(first.train), _names(first.gate), _names(first.test)]
    assert sum(map(len, names)) == len(set.union(*names)) == 80
    assert {document.domain for document in first.train} == {"d"}
    assert first.report["splits"]["train"]["documents"] == len(first.train)


def test_split_by_name_keeps_a_stem_together(tmp_path: Path) -> None:
    for suffix, folder in ((".md", "prose"), (".py", "code"), (".jsonl", "chat")):
        (tmp_path / folder).mkdir()
        for number in range(70):
            name = f"pkg.mod{number}"
            question = {"role": "user", "content": f"What is {name}?"}
            row = {"messages": [question, {"role": "assistant", "content": f"It is {name} {number}."}]}
            text = json.dumps(row) if suffix == ".jsonl" else f"# The text of {name} as {suffix}"
            (tmp_path / folder / f"{name}{suffix}").write_text(text)
    corpora = [build_corpus(tmp_path / folder, split_by="name") for folder in ("prose", "code", "chat")]
    for split in ("train", "gate", "test"):
        stems = [{Path(document.name).stem for document in corpus.split(split)} for corpus in corpora]
        assert stems[0] == stems[1] == stems[2]


def test_rows_of_one_file_are_split_each_for_itself(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [json.dumps({"text": f"The sentence with number {number}."}) for number in range(200)]
    file.write_text("\n".join(rows))
    before = {document.text: name for name in ("gate", "test") for document in build_corpus(file).split(name)}
    file.write_text("\n".join([json.dumps({"text": "A row that was inserted first."}), *rows]))
    after = {document.text: name for name in ("gate", "test") for document in build_corpus(file).split(name)}
    assert before
    assert before.items() <= after.items()


def test_dropped_documents_are_counted(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 5)
    (folder / "same.md").write_text("#  File 0\r\n\r\nThe text of  file number 0.\r\n")
    (folder / "short.md").write_text("hi")
    (folder / "talk.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "Is anybody there?!"}]}))
    dropped = build_corpus(folder, min_chars=10).report["sources"][0]["dropped"]
    assert {reason: entry["count"] for reason, entry in dropped.items()} == {
        "duplicate": 1,
        "shorter than 10 characters": 1,
        "no assistant turn": 1,
    }
    assert "first seen in" in dropped["duplicate"]["examples"][0]


def test_a_lone_long_text_is_cut(tmp_path: Path) -> None:
    shuffled = random.Random(0)
    paragraphs = [" ".join(shuffled.choices(_WORDS, k=80)) for _ in range(60)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    corpus = build_corpus(tmp_path / "book.txt")
    assert len(corpus.train) > 3
    assert corpus.gate
    assert corpus.test
    assert "cut at blank lines" in corpus.report["warnings"][0]


def test_two_short_texts_are_all_training(tmp_path: Path) -> None:
    corpus = build_corpus(_folder(tmp_path / "docs", 2))
    assert (len(corpus.train), corpus.gate, corpus.test) == (2, [], [])
    assert len(corpus.report["warnings"]) == 2


def test_nothing_left_after_cleaning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hi\n")
    with pytest.raises(LifelongError, match=r"no document is left.*shorter than 20"):
        build_corpus(tmp_path)
    with pytest.raises(LifelongError, match="no source"):
        build_corpus([])


def test_bad_split_options(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 3)
    with pytest.raises(LifelongError, match="sum to 1"):
        build_corpus(folder, fractions=(0.5, 0.1, 0.1))
    with pytest.raises(LifelongError, match="split_by"):
        build_corpus(folder, split_by="hash")


def test_prepared_directory_round_trip(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 60)
    chat = {"messages": [{"role": "user", "content": "Who are you, ü?"}, {"role": "assistant", "content": "Nobody."}]}
    (folder / "talk.jsonl").write_text(json.dumps(chat))
    seen: list[tuple[int, int]] = []
    made = prepare(f"{folder}@2", tmp_path / "out", domain="d", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (61, 61)
    assert is_prepared(tmp_path / "out")
    assert not is_prepared(folder)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"train.jsonl", "val.jsonl", "test.jsonl", "dataset_metadata.json", "manifest.json"}
    for loaded in (load_prepared(tmp_path / "out"), open_corpus(tmp_path / "out"), open_corpus([f"{tmp_path}/out"])):
        assert (loaded.train, loaded.gate, loaded.test, loaded.report) == (
            made.train,
            made.gate,
            made.test,
            made.report,
        )
    prepare(folder, tmp_path / "out", seed=9)  # ours, so it may be replaced
    assert load_prepared(tmp_path / "out").report["split"]["seed"] == 9


def test_prepared_splits_survive_being_a_source(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 60)
    made = prepare(folder, tmp_path / "out")
    # The raw files again, under another seed: all are duplicates of what is prepared, so no test text moves to train.
    again = build_corpus([folder, tmp_path / "out"], seed=5, domain="x")
    assert _names(again.test) == _names(made.test)
    assert _names(again.train) == _names(made.train)
    assert again.report["sources"][1]["dropped"]["duplicate"]["count"] == 60


def test_an_output_inside_its_source_is_not_read_back(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 10)
    prepare(folder, folder / "prepared")
    report = prepare(folder, folder / "prepared").report["sources"][0]
    assert report["read"] == 10
    assert report["skipped_files"]["prepared directory"]["count"] == 1


def test_a_foreign_output_directory_is_never_overwritten(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "docs", 3)
    precious = tmp_path / "out" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(LifelongError, match="never overwritten"):
        prepare(folder, tmp_path / "out")
    assert precious.read_text() == "mine"
    with pytest.raises(LifelongError, match="is a file"):
        prepare(folder, precious)


def test_a_damaged_prepared_directory_is_refused(tmp_path: Path) -> None:
    prepare(_folder(tmp_path / "docs", 10), tmp_path / "out")
    with (tmp_path / "out" / "train.jsonl").open("a") as handle:
        handle.write("{}\n")
    with pytest.raises(LifelongError, match=r"train\.jsonl has"):
        load_prepared(tmp_path / "out")
    with pytest.raises(LifelongError, match="not a prepared directory"):
        load_prepared(tmp_path / "docs")


def test_files_that_name_a_split_keep_it(tmp_path: Path) -> None:
    def rows(first: int, last: int) -> str:
        return "".join(json.dumps({"text": f"The statement number {number}."}) + "\n" for number in range(first, last))

    (tmp_path / "x-train.jsonl").write_text(rows(0, 300))
    (tmp_path / "x-test.jsonl").write_text(rows(250, 350))
    (tmp_path / "latest.jsonl").write_text(rows(400, 500))
    corpus = build_corpus(tmp_path)
    assert {d.name for d in corpus.test} == {"x-test.jsonl", "latest.jsonl"}
    assert sum(d.name == "x-test.jsonl" for d in corpus.test) == 100  # all of it; its twins in train are dropped
    assert {d.name for d in corpus.gate} == {"x-train.jsonl", "latest.jsonl"}
    assert any("keep the split they name" in warning for warning in corpus.report["warnings"])


def test_questions_on_one_text_stay_in_one_split(tmp_path: Path) -> None:
    shuffled = random.Random(0)
    rows = []
    for number in range(80):
        context = " ".join(shuffled.choices(_WORDS, k=80)) + f" chapter {number}"
        for ask in ("first", "last", "middle"):
            messages = [
                {"role": "user", "content": f"{context}\n\nWhat is the {ask} word?"},
                {"role": "assistant", "content": f"{ask} {number}"},
            ]
            rows.append(json.dumps({"messages": messages}))
    (tmp_path / "qa.jsonl").write_text("\n".join(rows))
    corpus = build_corpus(tmp_path)
    assert sum(len(corpus.split(name)) for name in ("train", "gate", "test")) == 240  # none is dropped
    splits: dict[str, set[str]] = {}
    for name in ("train", "gate", "test"):
        assert len(corpus.split(name)) > 6
        for document in corpus.split(name):
            splits.setdefault(document.text.split("\n\n")[0], set()).add(name)
    assert all(len(found) == 1 for found in splits.values())


def test_some_of_the_text_is_held_out_beside_many_conversations(tmp_path: Path) -> None:
    _folder(tmp_path / "docs", 12)
    turns = [[("user", f"What is {n} plus one?"), ("assistant", f"It is {n + 1}, as ever.")] for n in range(200)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in pair]} for pair in turns]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = build_corpus([tmp_path / "docs", tmp_path / "qa.jsonl"])
    for name in ("gate", "test"):
        assert {document.kind for document in corpus.split(name)} == {"markdown", "chat"}
