"""What happens around the steps of a run: models kept, early stopping, samples, logs and pictures."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifelong.cli.app import main
from lifelong.files import check_manifest, sha256_file
from lifelong.model.directory import find_model, load_model
from lifelong.train.folder import RunFolder

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 48, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
SAMPLES = """\
evaluation:
  generation:
    enabled: true
    prompts:
      - "Kubernetes is"
      - "A class"
    max_length: 100
    temperature: 0.8
    top_k: 50
    top_p: 0.95
    num_samples: 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    text = "\n\n\n".join(text for _, text in sorted(topics.topics.items()))[:30_000]
    (place / "text.txt").write_text(text, encoding="utf-8")
    (place / "preset.yaml").write_text(PRESET)
    (place / "samples.yaml").write_text(SAMPLES)
    made = ["tokenizer", "train", place / "text.txt", "--vocab-size", 600, "--out", place / "tok"]
    assert main([str(word) for word in made]) == 0
    return place


def arguments(place: Path, out: Path, *more: object, data: Path | None = None) -> list[str]:
    fixed = ["--data", data or place / "text.txt", "--tokenizer", place / "tok", "--preset", place / "preset.yaml"]
    size = ["--batch-size", 32, "--sequence-length", 32, "--threads", 1, "--evaluation.max-bytes", 4000]
    return [str(word) for word in ["train", *fixed, *size, "--out", out, *more]]


def train(
    capsys: pytest.CaptureFixture[str], place: Path, out: Path, *more: object, data: Path | None = None
) -> dict[str, Any]:
    capsys.readouterr()
    code = main([*arguments(place, out, "--tracking.no-plots", *more, data=data), "--json"])
    shown, said = capsys.readouterr()
    assert code == 0, said
    result: dict[str, Any] = json.loads(shown)
    return result


def weights(folder: Path) -> str:
    return sha256_file(folder / "model.safetensors")


def models(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if (path / "model.safetensors").is_file())


def three_epochs(place: Path) -> list[object]:
    samples = ["--config", place / "samples.yaml", "--evaluation.generation.temperature", 0]
    return ["--epochs", 3, "--early-stopping-patience", 3, *samples]


@pytest.fixture(scope="module")
def three(place: Path) -> Path:
    """A run of three epochs, samples at their ends."""
    out = place / "three"
    assert main(arguments(place, out, *three_epochs(place))) == 0
    return out / "runs" / "0001-pretrain"


def test_f11_a_model_is_kept_after_every_epoch_and_each_stands_on_its_own(three: Path) -> None:
    assert models(three) == ["best", "epoch_1", "epoch_2", "epoch_3", "final", "latest"]
    prompt = torch.tensor([[5, 6, 7, 8]])
    for name in models(three):
        kept = three / name
        assert check_manifest(kept) is None
        assert (kept / "lifelong" / "memory" / "examples.jsonl").stat().st_size > 1000
        ours, tokenizer = load_model(kept)
        theirs = AutoModelForCausalLM.from_pretrained(kept).eval()
        assert AutoTokenizer.from_pretrained(kept).encode("A class") == tokenizer.encode("A class")
        with torch.no_grad():
            torch.testing.assert_close(ours(prompt), theirs(prompt).logits, atol=1e-4, rtol=1e-4)
    kinds = {path.suffix for path in three.rglob("*") if path.is_file()}
    assert not kinds & {".pt", ".pkl", ".bin.index", ".pth"}
    assert len({weights(three / f"epoch_{number}") for number in (1, 2, 3)}) == 3
    assert weights(three / "latest") == weights(three / "final") == weights(three.parent.parent)
    assert weights(three / "epoch_3") == weights(three / "final")


def test_f11_a_run_or_an_epoch_is_a_model_for_every_verb(
    three: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_model(three) == three / "best"
    capsys.readouterr()
    for model in (three, three / "epoch_1"):
        assert main(["evaluate", str(model), "--json"]) == 0
    documents = capsys.readouterr().out.split("\n}\n")
    best, first = (json.loads(text + "\n}") for text in documents[:2])
    assert best["bits_per_byte"] < first["bits_per_byte"]
    again = ["--base", three / "epoch_1", "--steps", 1]
    result = train(capsys, place, tmp_path / "m", *again)
    assert result["steps"] == 1 and (tmp_path / "m" / "model.safetensors").is_file()


def test_f11_only_the_newest_epochs_are_kept_and_never_fewer_than_the_best(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = ["--early-stopping-patience", 9, "--early-stopping-min-delta", 100]  # the first measure stays the best
    result = train(capsys, place, tmp_path / "m", "--epochs", 3, "--checkpoint.keep-epochs", 1, *stop)
    assert models(Path(result["run"])) == ["best", "epoch_3", "final", "latest"]
    assert weights(Path(result["run"]) / "best") != weights(Path(result["run"]) / "epoch_3")
    result = train(capsys, place, tmp_path / "n", "--epochs", 1, "--checkpoint.keep-epochs", 0)
    assert models(Path(result["run"])) == ["best", "final", "latest"]


def test_f11_an_interrupted_run_keeps_the_models_of_the_uninterrupted_one(
    three: Path, place: Path, tmp_path: Path, interrupted_at: Any
) -> None:
    ends = [row["step"] for row in RunFolder(three).metrics() if "gate_loss" in row]
    out = tmp_path / "m"
    with interrupted_at(ends[1]):
        assert main(arguments(place, out, *three_epochs(place))) == 130
    run = out / "runs" / "0001-pretrain"
    assert find_model(run) == run / "best" and "latest" in models(run)
    assert main(["resume", str(out)]) == 0
    assert models(run) == models(three)
    for name in models(three):
        assert weights(run / name) == weights(three / name)
    assert (run / "samples.jsonl").read_bytes() == (three / "samples.jsonl").read_bytes()
    timed = ("seconds", "tokens_per_second", "memory_bytes", "mfu")
    both = [RunFolder(path).metrics() for path in (run, three)]
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in one] for one in both]
    assert rows[0] == rows[1]
    assert len(list((run / "plots").glob("*.png"))) == 3
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/train")] == [row["step"] for row in rows[0]]


def test_f24_a_run_that_improves_no_more_stops_and_its_best_weights_are_the_model(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = ["--early-stopping-patience", 2, "--early-stopping-min-delta", 100]
    result = train(capsys, place, tmp_path / "m", "--epochs", 30, *stop)
    assert result["early_stopped"] is True and result["epochs_completed"] == 3
    run = Path(result["run"])
    assert models(run) == ["best", "epoch_1", "epoch_2", "epoch_3", "final", "latest"]
    assert weights(tmp_path / "m") == weights(run / "best") == weights(run / "final") == weights(run / "epoch_1")
    rows = RunFolder(run).metrics()
    measured = [row for row in rows if "gate_loss" in row]
    assert result["steps"] == len(rows) and measured[0]["step"] == result["best_step"]
    assert result["after"]["loss"] == pytest.approx(measured[0]["gate_loss"], abs=1e-6)
    assert json.loads((run / "run.json").read_text())["early_stopped"] is True


def test_f24_a_run_that_overfits_ends_with_the_weights_before_it_did(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.txt").write_text((place / "text.txt").read_text(encoding="utf-8")[:9000], encoding="utf-8")
    stop = ["--early-stopping-patience", 3, "--evaluation.every-steps", 10]
    words = ["--steps", 300, "--learning-rate", 0.02, *stop]
    result = train(capsys, place, tmp_path / "m", *words, data=tmp_path / "small.txt")
    measured = [row for row in RunFolder(Path(result["run"])).metrics() if "gate_loss" in row]
    best = min(measured, key=lambda row: row["gate_loss"])
    assert result["early_stopped"] and result["steps"] < 300
    assert result["best_step"] == best["step"] == result["steps"] - 30
    assert result["after"]["loss"] == pytest.approx(best["gate_loss"], abs=1e-6)


def test_f24_stopping_early_survives_an_interruption(
    place: Path,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop = ["--early-stopping-patience", 4, "--early-stopping-min-delta", 100, "--early-stopping.metric", "train_loss"]
    often = ["--steps", 60, "--evaluation.every-steps", 3, *stop]
    whole = train(capsys, place, tmp_path / "whole", *often)
    assert whole["early_stopped"] and whole["steps"] == 15 and whole["best_step"] == 3
    with interrupted_at(7):
        assert main(arguments(place, tmp_path / "cut", *often)) == 130
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "cut"), "--json"]) == 0
    cut = json.loads(capsys.readouterr().out)
    assert {key: cut[key] for key in ("early_stopped", "steps", "best_step", "epochs_completed")} == {
        key: whole[key] for key in ("early_stopped", "steps", "best_step", "epochs_completed")
    }
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_f24_watching_held_out_text_that_there_is_not_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["cache", "build", place / "text.txt", "--tokenizer", place / "tok", "--out", tmp_path / "c"]
    assert main([str(word) for word in cache]) == 0
    train_cache = next(path.parent for path in tmp_path.rglob("meta.json") if path.parent.name == "train")
    data = (tmp_path / "alone").resolve()
    train_cache.rename(data)  # away from its val split
    given = arguments(place, tmp_path / "m", "--steps", 4, "--early-stopping-patience", 1, data=data)
    capsys.readouterr()
    assert main(given) == 2
    assert "early_stopping.metric" in capsys.readouterr().err
    assert not (tmp_path / "m" / "model.safetensors").exists()


def test_f34_samples_of_a_masked_model_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--phase", "mlm", "--steps", 1, "--evaluation.generation.prompts", "A"]
    capsys.readouterr()
    assert main(arguments(place, tmp_path / "m", *words)) == 2
    assert "evaluation.generation" in capsys.readouterr().err


def test_f31_metrics_tensorboard_and_the_log_say_the_same(three: Path) -> None:
    rows = RunFolder(three).metrics()
    events = EventAccumulator(str(three / "tensorboard")).Reload()
    names = {
        "loss/train": "loss",
        "loss/held_out": "gate_loss",
        "perplexity/held_out": "gate_perplexity",
        "token_accuracy/held_out": "gate_token_accuracy",
        "learning_rate": "lr",
        "grad_norm": "grad_norm",
    }
    for tag, name in names.items():
        expected = [(row["step"], row[name]) for row in rows if name in row]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-5)
    measured = [row for row in rows if "gate_loss" in row]
    assert len(measured) == 3
    for row in measured:
        assert row["gate_perplexity"] == pytest.approx(torch.tensor(row["gate_loss"]).exp().item(), rel=1e-5)
        assert 0 < row["gate_token_accuracy"] < 1
    log = (three / "run.log").read_text(encoding="utf-8")
    for row in measured:
        assert f"step {row['step']}  epoch" in log and f"perplexity {row['gate_perplexity']:.2f}" in log
    assert "parameters" in log
    assert any(tag.startswith("samples/A class") for tag in events.Tags()["tensors"])


def test_f31_the_log_says_why_a_run_stopped(
    place: Path,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with interrupted_at(3):
        assert main(arguments(place, tmp_path / "m", "--steps", 9)) == 130
    assert "stopped: interrupted at step 3 of 9" in next(tmp_path.rglob("run.log")).read_text(encoding="utf-8")


def test_f31_f32_tensorboard_and_pictures_can_be_left_out(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(capsys, place, tmp_path / "m", "--steps", 2, "--tracking.no-tensorboard")
    names = {path.name for path in Path(result["run"]).iterdir()}
    assert "run.log" in names and not names & {"tensorboard", "plots", "samples.jsonl"}


def test_f32_a_run_leaves_pictures_of_loss_perplexity_and_learning_rate(three: Path) -> None:
    pictures = sorted((three / "plots").iterdir())
    assert [path.name for path in pictures] == ["learning_rate.png", "loss.png", "perplexity.png"]
    for path in pictures:
        image = imread(path)
        assert image.shape[1] > 800 and image.std() > 0.02


def test_f34_the_model_writes_samples_at_every_measure(
    three: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (three / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = [row["step"] for row in RunFolder(three).metrics() if "gate_loss" in row]
    assert [(row["step"], row["prompt"], row["sample"]) for row in rows] == [
        (step, prompt, number) for step in ends for prompt in ("Kubernetes is", "A class") for number in (1, 2, 3)
    ]
    capsys.readouterr()
    prompt = ["--prompt", "A class", "--temperature", "0", "--max-tokens", "32", "--json"]
    for number, step in enumerate(ends, start=1):  # the likeliest text is the one that the kept model writes later
        assert main(["generate", str(three / f"epoch_{number}"), *prompt]) == 0
        text = json.loads(capsys.readouterr().out)["texts"][0]
        assert {row["text"] for row in rows if row["step"] == step and row["prompt"] == "A class"} == {text}
    assert "cut to 32 tokens" in (three / "run.log").read_text(encoding="utf-8")
    plain = train(capsys, place, tmp_path / "plain", "--epochs", 3)
    assert weights(tmp_path / "plain") == weights(three / "epoch_3")
    assert not (Path(plain["run"]) / "samples.jsonl").exists()
