"""What a model directory knows of itself, when a part of it is lost or altered; and sources as users name them."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import shutil
from pathlib import Path

import pytest

from driving import done, refused, said, visible
from lifelong import ContinualLearner
from lifelong.errors import LifelongError
from lifelong.model.store import ModelStore

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 500
model: {d_model: 32, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
QUICK: list[object] = ["--batch-size", 4, "--max-bytes", 4000, "--threads", 1, "--mode", "adapter", "--steps", 8]
QUICK += ["--learning-rate", 0.01, "--accept"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of text, and a model that was taught two of them under the names that they have from here."""
    place = tmp_path_factory.mktemp("kept")
    (place / "manual.txt").write_text("\n\n\n".join(text for _, text in sorted(topics.topics.items()))[:60_000])
    lines = {
        "sea": "Line {0}: the sea is {0} miles wide, and {1} deep.",
        "hills": "Row {0}: the hill is {0} feet high, said the map of {1}.",
        "law": "Article {0}. Whoever breaks article {1} pays {0} crowns to the crown.",
    }
    for name, line in lines.items():
        (place / name).mkdir()
        for part in range(10):
            numbers = range(part * 60, part * 60 + 60)
            text = "\n\n".join(line.format(number, number + 1) for number in numbers)
            (place / name / f"{part}.txt").write_text(text)
    (place / "preset.yaml").write_text(PRESET)
    done("tokenizer", "train", place / "manual.txt", "--vocab-size", 500, "--out", place / "tok")
    plain = ["--evaluation.max-bytes", 4000, "--tracking.no-plots", "--tracking.no-tensorboard", "--threads", 1]
    shape = ["--tokenizer", place / "tok", "--preset", place / "preset.yaml", "--steps", 40, "--domain", "manual"]
    done("train", "--data", place / "manual.txt", *shape, *plain, "--out", place / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for domain in ("sea", "hills"):
            done("learn", "model", domain, "--domain", domain, *QUICK)
    return place


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "model", tmp_path / "model")
    return tmp_path / "model"


def contents(model: Path, generation: int, name: str) -> Path:
    found = ModelStore(model).content(generation, name)
    assert found is not None
    return found


@pytest.mark.parametrize("gone", [True, False])
def test_a_state_whose_contents_are_gone_or_altered_is_not_gone_back_to(
    model: Path, gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before, head = visible(model), ModelStore(model).head()
    stored = contents(model, 1, "lifelong/state.json")
    if gone:
        stored.unlink()
    else:
        data = bytearray(stored.read_bytes())
        data[5] ^= 1
        stored.unlink()
        stored.write_bytes(data)
    err = refused(capsys, "rollback", model, 1)
    assert f"the stored content of lifelong/state.json is {'gone' if gone else 'altered'}" in err
    assert ModelStore.open(model).head() == head and visible(model) == before
    done("domains", model)


def test_a_disk_that_fills_after_the_switch_is_named_and_the_next_command_goes_on(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:

        def full(source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("lifelong.model.store.link_file", full)
        err = refused(capsys, "rollback", model)
        assert (
            "not all of its files could be laid at the root: No space left" in err and "Nothing was changed" not in err
        )
        assert "No space left" in refused(capsys, "domains", model)
    assert [item["domain"] for item in said(capsys, "domains", model)["domains"]] == ["manual", "sea"]


def test_lost_memory_is_laid_there_again_and_altered_memory_stops_a_lesson(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = visible(model)
    (model / "lifelong/state.json").unlink()
    shutil.rmtree(model / "lifelong/domains/sea")
    done("domains", model)
    err = capsys.readouterr().err
    assert "laid there again" in err and "lifelong/state.json" in err and "lifelong/domains/sea/test.jsonl" in err
    assert visible(model) == before
    (model / "lifelong/state.json").unlink()
    (model / "lifelong/state.json").write_text("{}")
    assert "is not as it was recorded" in refused(capsys, "learn", model, place / "law", "--domain", "law", *QUICK)


def test_damaged_files_are_named(model: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = model / "lifelong/history.jsonl"
    lines = history.read_text()
    history.unlink()
    history.write_text(lines + "{}\n")
    assert "history.jsonl:4" in refused(capsys, "history", model)
    history.unlink()
    done("history", model)
    weights = model / "lifelong/adapters/sea/adapter_model.safetensors"
    weights.unlink()
    weights.write_bytes(b"x")
    assert "the adapter cannot be read" in refused(capsys, "generate", model, "--prompt", "x")
    weights.unlink()
    (model / "lifelong/.lock").write_text("")
    assert "does not say whose it is" in refused(capsys, "rollback", model)


def test_a_source_is_known_by_its_path_from_anywhere(
    model: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "else/sea").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "else")
    assert "no source is named" in refused(capsys, "forget", model, "--source", " ")
    assert "nothing of" in refused(capsys, "forget", model, "--source", tmp_path / "else/sea")
    # A file of a folder that an adapter was taught: it goes, what the adapter learned of it stays.
    part = said(capsys, "forget", model, "--source", place / "hills/3.txt")
    assert any("the adapter 'hills' learned it with the rest of hills" in line for line in part["stays"])
    gone = said(capsys, "forget", model, "--source", place / "sea")
    assert gone["adapters"] == ["sea"] and gone["examples"]


def test_what_changed_between_lessons_is_not_the_next_lessons_doing(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done("forget", model, "--source", place / "sea")
    stale = said(capsys, "matrix", model)
    assert stale["stale"].startswith("measured before") and stale["sessions"] == ["start", "sea", "hills"]
    # Other rows and less text: the matrix is measured as it was.
    less = [2000 if word == 4000 else word for word in QUICK]
    done("learn", model, place / "law", "--domain", "law", *less, "--sequence-length", 32)
    assert "the matrix is measured as it was before" in capsys.readouterr().err
    found = said(capsys, "matrix", model)
    assert found["sessions"] == ["start", "sea", "hills", "measured anew", "law"] and "stale" not in found
    sea = found["domains"].index("sea")
    assert found["bpb"][3][sea] > found["bpb"][2][sea] * 1.001
    assert found["bpb"][4][0] == pytest.approx(found["bpb"][3][0], rel=0.01)
    lesson = json.loads((model / "lifelong/sessions/0003-law.json").read_text())
    assert lesson["measured_damage"] is not None and lesson["gate"]["hills"]["standard_error"] is not None


def test_going_back_and_forth_says_what_is_gone_and_what_is_back(
    model: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model / "lifelong/adapters/sea", tmp_path / "made")
    done("import", tmp_path / "made", "--into", model, "--name", "tide")
    done("forget", model, "--source", place / "hills")
    found = said(capsys, "rollback", model)
    assert found["undone"] == "lesson 2 (hills)" and found["also_undone"] == ["import (tide)"]
    assert found["back_again"] == []  # the state before lesson 2 knew nothing of the hills
    forward = said(capsys, "rollback", model, "--to", 3)
    assert forward["back"] == ["lesson 2 (hills)"] and forward["also_undone"] == []
    assert "is not a whole number" in refused(capsys, "rollback", model, "1.5")
    done("history", model)
    out = capsys.readouterr().out
    assert "3*" in out and "lesson 2 undone, back to state 2" in out
    done("report", model, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "back to state 2" in page


def test_a_memory_that_shrinks_says_what_it_lets_go(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def remembered() -> int:
        return sum(len(line) > 0 for line in (model / "lifelong/memory/examples.jsonl").read_text().splitlines())

    held = remembered()
    capsys.readouterr()
    done("learn", model, place / "law", "--domain", "law", *QUICK, "--replay-buffer-size", 4)
    err = capsys.readouterr().err
    note = next(line for line in err.splitlines() if "lets go of" in line)
    told = sum(int(word) for word in note.partition("held: ")[2].replace(",", "").split() if word.isdigit())
    rows = [json.loads(line) for line in (model / "lifelong/memory/examples.jsonl").read_text().splitlines()]
    assert told == held - sum(row["domain"] != "law" for row in rows) > 0


def test_a_short_sentence_is_a_lesson_and_a_tokenizer_of_transformers_is_known(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    learner = ContinualLearner(model, {"max_bytes": 4000, "steps": 2, "mode": "adapter", "threads": 1})
    result = learner.learn_from_text("Paris is in France.", domain="facts")
    assert result.accepted and result.steps == 2
    with pytest.raises(LifelongError, match="a text, or a list of texts"):
        learner.learn_from_text(b"bytes", domain="facts")
    with pytest.raises(LifelongError, match="this is a file"):
        (tmp_path / "a.py").write_text("x")
        learner.save_checkpoint(tmp_path / "a.py")
    saved = learner.save_checkpoint(tmp_path / "saved")
    ContinualLearner.from_checkpoint(saved, tokenizer=AutoTokenizer.from_pretrained(model))
