"""Guide C's scripts: models, batches, a trainer that stops early, models loaded, trained further and extracted."""

from __future__ import annotations

import json
import math
import pydoc_data.topics as topics
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong import (
    BPETokenizer,
    ContinualLLM,
    EncoderOnlyModel,
    Trainer,
    check_model_exists,
    continue_training,
    create_dataloaders,
    extract_model_for_inference,
    load_and_split_data,
    load_model_and_tokenizer,
)
from lifelong.errors import LifelongError
from lifelong.files import sha256_file
from lifelong.model.store import ModelStore


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's own documentation in two files."""
    folder = tmp_path_factory.mktemp("data")
    texts = [text for _, text in sorted(topics.topics.items())]
    (folder / "train.txt").write_text("\n\n".join(texts[:20]), encoding="utf-8")
    (folder / "new_data.txt").write_text("\n\n".join(texts[40:46]), encoding="utf-8")
    return folder


def shape(kind: str, tokenizer: BPETokenizer) -> dict[str, Any]:
    """Guide C's dictionary, smaller."""
    return {
        "model_type": kind,
        "vocab_size": tokenizer.vocab_size,
        "d_model": 64,
        "num_heads": 4,
        "num_layers": 2,
        "d_ff": 128,
        "max_seq_len": 64,
        "dropout": 0.1,
    }


def prepared(data: Path) -> tuple[BPETokenizer, Any, Any]:
    train_texts, val_texts, _ = load_and_split_data(
        file_path=str(data / "train.txt"), split_method="paragraph", val_split=0.1, test_split=0.0
    )
    tokenizer = BPETokenizer(vocab_size=600)
    tokenizer.train(train_texts)
    tokenizer.save(str(data / "tokenizer.json"))
    train_dataloader, val_dataloader = create_dataloaders(
        train_texts=train_texts, val_texts=val_texts, tokenizer=tokenizer, batch_size=8, max_length=64
    )
    return tokenizer, train_dataloader, val_dataloader


@pytest.fixture(scope="module")
def encoder(data: Path) -> dict[str, Any]:
    """Guide C, "Training an Encoder-Only Model", as it stands."""
    torch.manual_seed(0)
    tokenizer, train_dataloader, val_dataloader = prepared(data)
    model = EncoderOnlyModel(shape("encoder_only", tokenizer))
    trainer = Trainer(
        model=model,
        train_dataloader=train_dataloader,
        val_dataloader=val_dataloader,
        learning_rate=1e-2,
        checkpoint_dir=str(data / "checkpoints" / "encoder_model"),
        early_stopping_patience=5,
    )
    return trainer.train(epochs=3)


@pytest.fixture(scope="module")
def decoder(data: Path) -> dict[str, Any]:
    """The same for a model that reads from left to right."""
    torch.manual_seed(0)
    tokenizer, train_dataloader, val_dataloader = prepared(data)
    trainer = Trainer(
        model=ContinualLLM(shape("decoder_only", tokenizer)),
        train_dataloader=train_dataloader,
        val_dataloader=val_dataloader,
        checkpoint_dir=str(data / "checkpoints" / "decoder"),
    )
    return trainer.train(epochs=2)


def held_out(data: Path) -> Any:
    return prepared(data)[2]


def test_f25_an_encoder_is_trained_as_in_the_guide_and_learns(encoder: dict[str, Any], data: Path) -> None:
    assert encoder["epochs_completed"] == 3 and not encoder["early_stopped"]
    assert len(encoder["train_losses"]) == len(encoder["val_losses"]) == len(encoder["val_bits_per_byte"]) == 3
    # The baseline: a uniform guess, at which a new model starts.
    assert encoder["before"] == pytest.approx(math.log(601), rel=0.02)
    assert encoder["best_val_loss"] == min(encoder["val_losses"]) < 0.88 * encoder["before"]
    model, tokenizer = load_model_and_tokenizer(
        model_path=str(data / "checkpoints" / "encoder_model" / "best_model"),
        tokenizer_path=str(data / "tokenizer.json"),
        device="cpu",
    )
    assert isinstance(model, EncoderOnlyModel)
    input_ids = torch.tensor([tokenizer.encode("The yield expression is used when")])
    assert model.predict_mlm(input_ids, torch.ones_like(input_ids)).shape == (1, input_ids.shape[1], 601)
    rows = [json.loads(line) for line in (data / "checkpoints/encoder_model/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))


def test_f25_transformers_opens_the_best_encoder_with_its_mask(encoder: dict[str, Any]) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    other, info = AutoModelForMaskedLM.from_pretrained(encoder["best_model"], output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    stock = AutoTokenizer.from_pretrained(encoder["best_model"])
    ours, _ = load_model_and_tokenizer(encoder["best_model"])
    assert stock.mask_token_id == other.config.mask_token_id == ours.config.mask_token_id == 600


def test_f25_the_reported_loss_is_that_of_the_best_model_in_transformers(decoder: dict[str, Any], data: Path) -> None:
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(decoder["best_model"]).eval()
    nats = tokens = 0.0
    with torch.no_grad():
        for batch in held_out(data):
            count = int((batch["labels"][:, 1:] != -100).sum())
            nats, tokens = nats + float(other(**batch).loss) * count, tokens + count
    assert nats / tokens == pytest.approx(decoder["best_val_loss"], rel=1e-4)
    assert decoder["best_val_loss"] < 0.75 * decoder["before"]
    assert decoder["val_bits_per_byte"][-1] < 4.0


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_f25_a_model_is_trained_further_and_extracted_as_in_the_guide(
    kind: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    best = Path(request.getfixturevalue(kind)["best_model"])
    train_texts, val_texts, _ = load_and_split_data(
        file_path=str(data / "new_data.txt"), split_method="paragraph", val_split=0.1, test_split=0.0
    )
    tokenizer = BPETokenizer.load(str(data / "tokenizer.json"))
    train_dataloader, val_dataloader = create_dataloaders(
        train_texts=train_texts, val_texts=val_texts, tokenizer=tokenizer, batch_size=16, max_length=64
    )
    before = sha256_file(best / "model.safetensors")
    results = continue_training(
        model_path=str(best),
        train_dataloader=train_dataloader,
        val_dataloader=val_dataloader,
        learning_rate=5e-4,
        epochs=2,
        checkpoint_dir=str(tmp_path / "checkpoints" / "fine_tuned"),
        early_stopping_patience=3,
    )
    assert results["best_val_loss"] < results["before"]
    assert sha256_file(best / "model.safetensors") == before
    tuned = tmp_path / "checkpoints" / "fine_tuned" / "best_model"
    assert results["best_model"] == str(tuned) and check_model_exists(str(tuned))
    assert ModelStore.open(tuned).history()[-1]["event"] == "train"
    extracted_path = extract_model_for_inference(
        model_path=str(tuned), output_path=str(tmp_path / "models" / "inference_model"), device="cpu"
    )
    assert not (Path(extracted_path) / "lifelong").exists()
    smaller = sum(file.stat().st_size for file in Path(extracted_path).rglob("*"))
    assert smaller < sum(file.stat().st_size for file in tuned.rglob("*")) / 2
    ours, tokenizer_of_it = load_model_and_tokenizer(extracted_path)
    same, _ = load_model_and_tokenizer(str(tmp_path / "checkpoints" / "fine_tuned"))
    ids = torch.tensor([tokenizer_of_it.encode("for x in range")])
    with torch.no_grad():
        assert torch.equal(ours(ids), same(ids))
    # An extraction replaces an earlier one, and nothing else.
    extract_model_for_inference(str(best), extracted_path)
    with pytest.raises(LifelongError, match="never overwritten"):
        extract_model_for_inference(str(tuned), str(best))


def test_f24_training_stops_early_and_the_best_weights_are_put_back(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    tokenizer, _, _ = prepared(data)
    texts = [text[:400] for _, text in sorted(topics.topics.items())]
    # So little text that it is soon known by heart, while the held-out loss rises.
    train_dataloader, val_dataloader = create_dataloaders(texts[:3], texts[50:54], tokenizer, 4, 64)
    assert val_dataloader is not None
    trainer = Trainer(
        model=ContinualLLM(shape("decoder_only", tokenizer)),
        train_dataloader=train_dataloader,
        val_dataloader=val_dataloader,
        learning_rate=1e-2,
        checkpoint_dir=tmp_path,
        device="cpu",
        early_stopping_patience=2,
        early_stopping_min_delta=0.01,
        schedule="constant",
    )
    results = trainer.train(epochs=60)
    assert results["early_stopped"] and results["epochs_completed"] == results["best_epoch"] + 2 < 60
    measured = trainer.measure()
    assert measured is not None and measured.loss == pytest.approx(results["best_val_loss"], rel=1e-6)
    best, _ = load_model_and_tokenizer(tmp_path)
    for name, weight in best.state_dict().items():
        assert torch.equal(weight, trainer.model.state_dict()[name])
    # Called again it goes on: its patience is new, and the best stays the best of all.
    again = trainer.train(epochs=4)
    assert again["best_val_loss"] <= results["best_val_loss"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == list(range(1, len(steps) + 1))


def test_f24_the_training_loss_can_be_watched(data: Path, tmp_path: Path) -> None:
    tokenizer, _, _ = prepared(data)
    batches, _ = create_dataloaders([topics.topics["yield"]], [], tokenizer, 4, 64)
    model = ContinualLLM(shape("decoder_only", tokenizer))
    watched: dict[str, Any] = {"early_stopping_metric": "train_loss", "early_stopping_min_delta": 100.0}
    results = Trainer(model, batches, checkpoint_dir=tmp_path, early_stopping_patience=1, **watched).train(epochs=9)
    assert results["early_stopped"] and results["epochs_completed"] == 2 and results["best_epoch"] == 1
    assert results["val_losses"] == [] and check_model_exists(results["best_model"])
    with pytest.raises(LifelongError, match="no validation batches"):
        Trainer(model, batches, checkpoint_dir=tmp_path, early_stopping_patience=1)


def test_f25_batches_that_hide_tokens_themselves_are_taken_as_they_are(data: Path, tmp_path: Path) -> None:
    from lifelong.train.batches import Reader

    tokenizer, train_dataloader, _ = prepared(data)
    model = EncoderOnlyModel(shape("encoder_only", tokenizer))
    Trainer(model, train_dataloader, checkpoint_dir=tmp_path)
    reader = Reader(model, tokenizer, seed=0)
    mask = model.config.mask_token_id
    given = next(iter(train_dataloader))
    ids, labels = given["input_ids"].clone(), torch.full_like(given["labels"], -100)
    labels[:, 0], ids[:, 0] = ids[:, 0], 7
    taken = reader.read({"input_ids": ids, "labels": labels, "attention_mask": given["attention_mask"]}, 0)
    assert torch.equal(taken.input_ids, ids) and torch.equal(taken.labels, labels)
    hidden = reader.read(given, 0)
    real = given["attention_mask"] == 1
    share = float((hidden.labels != -100).sum() / real.sum())
    assert 0.1 < share < 0.2 and not (hidden.labels[~real] != -100).any()
    assert torch.equal(hidden.input_ids == mask, (hidden.input_ids == mask) & (hidden.labels != -100) | ~real)


def test_f25_what_does_not_fit_is_said(data: Path, tmp_path: Path) -> None:
    tokenizer, batches, _ = prepared(data)
    model = ContinualLLM(shape("decoder_only", tokenizer))
    plain = [dict(batch) for batch in batches]
    with pytest.raises(LifelongError, match="do not know their tokenizer"):
        Trainer(model, plain, checkpoint_dir=tmp_path)
    wrong = [{key: value + 10**6 for key, value in plain[0].items()}]
    with pytest.raises(LifelongError, match="the model knows 600"):
        Trainer(model, wrong, checkpoint_dir=tmp_path, tokenizer=tokenizer).train(epochs=1)
    with pytest.raises(LifelongError, match="no 'labels'"):
        Trainer(model, [{"input_ids": plain[0]["input_ids"]}], checkpoint_dir=tmp_path, tokenizer=tokenizer).train()
    with pytest.raises(LifelongError, match="nothing to train on"):
        Trainer(model, [], checkpoint_dir=tmp_path, tokenizer=tokenizer)
    with pytest.raises(LifelongError, match="0 epochs"):
        Trainer(model, plain, checkpoint_dir=tmp_path, tokenizer=tokenizer).train(epochs=0)
    with pytest.raises(LifelongError, match="patience"):
        Trainer(model, batches, batches, checkpoint_dir=tmp_path, early_stopping_patience=0)
    with pytest.raises(LifelongError, match="no such model directory"):
        load_model_and_tokenizer(tmp_path / "nowhere")
    other = BPETokenizer(300).train([topics.topics["yield"]])
    other.save(tmp_path / "other.json")
    with pytest.raises(LifelongError, match="another than the one"):
        Trainer(model, batches, checkpoint_dir=tmp_path, tokenizer=other)
