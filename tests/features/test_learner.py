"""Guide A from Python: a model, a tokenizer, lessons from text; and what a model knows, on the command line."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import shutil
from pathlib import Path

import pytest

from lifelong import BPETokenizer, ContinualLearner, ContinualLearningConfig, ContinualLLM, ModelConfig
from lifelong.cli.app import main
from lifelong.errors import LifelongError
from lifelong.learn.ledger import read_history, read_matrix
from lifelong.text.memory import ReplayMemory
from lifelong.train.founding import MEMORY

TEXT = "\n\n\n".join(text for _, text in sorted(topics.topics.items()))[:120_000]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(600).train([TEXT])


def small(tokenizer: BPETokenizer, **choices: object) -> ContinualLearner:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, d_model=32, num_layers=2, num_query_heads=2, num_kv_heads=1, max_seq_len=64
    )
    given = {"lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "replay_buffer_size": 1000, "use_ewc": True}
    settings = ContinualLearningConfig(**{**given, "ewc_lambda": 1000, "max_bytes": 8000, **choices})
    return ContinualLearner(base_model=ContinualLLM(config), config=settings, tokenizer=tokenizer)


def test_f09_a_sentence_is_taught_kept_saved_and_loaded(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    learner = small(tokenizer, learning_rate=0.01)
    sentence = "Python is a high-level programming language that reads like English and runs almost everywhere."
    result = learner.learn_from_text(text=sentence, domain="programming", importance=1.0, num_epochs=3)
    assert result.accepted and any("unmeasured" in reason for reason in result.decision.reasons)
    response = learner.generate(prompt="Python is used for", max_length=20, temperature=0.8, top_p=0.9, seed=1)
    assert isinstance(response, str)
    saved = learner.save_checkpoint(tmp_path / "checkpoints/python_model")
    again = ContinualLearner.from_checkpoint(saved, tokenizer=tokenizer)
    assert again.generate("Python is used for", 20, seed=1) == response
    assert [event["event"] for event in read_history(saved)] == ["founded", "lesson"]
    other = small(tokenizer)
    other.load_checkpoint(saved)
    assert other.generate("Python is used for", 20, seed=1) == response
    assert main(["domains", str(saved)]) == 0
    with pytest.raises(LifelongError, match="not the model's own"):
        ContinualLearner.from_checkpoint(saved, tokenizer=BPETokenizer(500).train([TEXT]))
    with pytest.raises(LifelongError, match="no model directory of ours"):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/thesis.txt").write_text("x")
        learner.save_checkpoint(tmp_path / "mine")


def test_f09_a_lesson_from_text_teaches(tokenizer: BPETokenizer) -> None:
    learner = small(tokenizer, batch_size=8, mode="full", learning_rate=0.01, replay_share=0)
    result = learner.learn_from_text(TEXT, domain="manual", num_epochs=2)
    assert result.accepted
    before, after = (row[0] for row in result.matrix.bpb[-2:])
    assert before is not None and after is not None and after < before - 1.0
    with pytest.raises(LifelongError, match="learning_rte"):
        learner.learn_from_text("More.", learning_rte=1)
    with pytest.raises(LifelongError):
        learner.learn_from_text("   ")


def test_f08_what_a_model_knows_can_be_listed_asked_for_and_dropped(
    tokenizer: BPETokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = small(tokenizer, batch_size=4, learning_rate=0.01, accept=True, use_ewc=False)
    learner.learn_from_text(TEXT, domain="manual", mode="full", steps=40, replay_share=0)
    model = learner.save_checkpoint(tmp_path / "model")
    sea, hills = tmp_path / "sea.txt", tmp_path / "hills.txt"
    sea.write_text("\n\n".join(f"Line {n}: the sea is {n} miles wide, and {n + 1} deep." for n in range(500)))
    hills.write_text("\n\n".join(f"Row {n}: the hill is {n} feet high, said the map of {n + 3}." for n in range(500)))
    options = ["--mode", "adapter", "--steps", "12", "--batch-size", "4", "--max-bytes", "8000", "--accept"]
    for source, domain in ((sea, "sea"), (hills, "hills")):
        assert main(["learn", str(model), str(source), "--domain", domain, "--learning-rate", "0.01", *options]) == 0
    capsys.readouterr()
    assert main(["domains", str(model), "--json"]) == 0
    found = {item["domain"]: item for item in json.loads(capsys.readouterr().out)["domains"]}
    assert [found[name]["adapters"] for name in ("manual", "sea", "hills")] == [[], ["sea"], ["hills"]]
    assert all(item["remembered"] and item["test_documents"] for item in found.values())
    assert main(["evaluate", str(model), "--max-bytes", "4000", "--json"]) == 0
    routed = json.loads(capsys.readouterr().out)["domains"]["sea"]
    assert set(routed["experts"]) == {"base", "sea", "hills"}
    assert main(["evaluate", str(model), "--max-bytes", "4000", "--json", "--adapter", "base"]) == 0
    base = json.loads(capsys.readouterr().out)["domains"]["sea"]
    assert routed["bits_per_byte"] < base["bits_per_byte"] == pytest.approx(routed["experts"]["base"], abs=1e-4)
    assert main(["generate", str(model), "--prompt", "Line 4:", "--max-tokens", "4", "--adapter", "sea"]) == 0
    assert main(["generate", str(model), "--prompt", "Line 4:", "--adapter", "nobody"]) == 2
    capsys.readouterr()
    assert main(["report", str(model), "--out", str(tmp_path / "page.html"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert shown["sessions"] == ["start", "manual", "sea", "hills"] and len(shown["runs"]) == 2
    assert "<svg" in page and "adapter sea" in page and "lesson" in page
    run = next((model / "runs").iterdir())
    assert main(["report", str(run), "--out", str(tmp_path / "run.html")]) == 0
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "none.html")]) == 2
    capsys.readouterr()
    assert main(["forget", str(model), "--source", str(sea), "--json"]) == 0
    gone = json.loads(capsys.readouterr().out)
    assert gone["adapters"] == ["sea"] and gone["examples"] > 0 and "earlier states" in gone["stays"][0]
    assert main(["domains", str(model), "--json"]) == 0
    left = {item["domain"]: item for item in json.loads(capsys.readouterr().out)["domains"]}
    assert left["sea"]["remembered"] == 0 and left["sea"]["adapters"] == [] and left["hills"]["remembered"]
    assert main(["forget", str(model), "--source", "nowhere.txt"]) == 2
    assert "nothing of 'nowhere.txt' is known" in capsys.readouterr().err
    assert main(["history", str(model)]) == 0
    assert "examples of" in capsys.readouterr().out
    assert read_matrix(model).domains == ["manual", "sea", "hills"]
    shutil.rmtree(model)


def test_f09_a_text_from_python_has_a_name_by_which_it_is_forgotten(
    tokenizer: BPETokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = small(tokenizer, batch_size=4, learning_rate=0.01, accept=True, use_ewc=False, mode="adapter", steps=4)
    sea = [f"Line {n}: the sea is {n} miles wide, and {n + 1} deep. Nobody has measured it twice." for n in range(60)]
    learner.learn_from_text(sea, domain="sea", source="letters from the coast")
    learner.learn_from_text(TEXT[:20_000], domain="manual")
    saved = learner.save_checkpoint(tmp_path / "saved")
    lessons = [event for event in read_history(saved) if event["event"] == "lesson"]
    assert [event["sources"] for event in lessons] == [["letters from the coast"], ["manual"]]
    memory = ReplayMemory.load(saved / MEMORY)
    assert {example.source for example in memory.documents()} == {"letters from the coast", "manual"}
    assert not any(str(tmp_path.parent) in example.source for example in memory.documents())
    assert main(["forget", str(saved), "--source", "letters", "--json"]) == 2
    assert "Remembered sources: letters from the coast, manual" in capsys.readouterr().err
    assert main(["forget", str(saved), "--source", "letters from the coast", "--json"]) == 0
    gone = json.loads(capsys.readouterr().out)
    assert gone["adapters"] == ["sea"] and gone["examples"] > 0
    assert set(ReplayMemory.load(saved / MEMORY).counts()) == {"manual"}
    with pytest.raises(LifelongError, match="half of a character"):
        learner.learn_from_text("torn \ud800 text")
    with pytest.raises(LifelongError, match="no source of text"):
        learner.learn_from_text([])
