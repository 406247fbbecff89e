"""Masked-language-model runs go on exactly, and are measured on hidden tokens only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong.errors import Interrupted, LifelongError
from lifelong.evaluate.bits import score
from lifelong.evaluate.masked import held_out_windows
from lifelong.files import sha256_file
from lifelong.model.directory import load_model
from lifelong.model.encoder import EncoderOnlyModel
from lifelong.settings.train import TrainSettings
from lifelong.text.document import Document
from lifelong.train.folder import RunFolder
from lifelong.train.run import resume, train


@pytest.fixture
def masked(settings: TrainSettings, tmp_path: Path) -> TrainSettings:
    shape = Path(settings.preset).read_text(encoding="utf-8").replace("model: {", "model: {dropout: 0.1, ")
    (tmp_path / "dropout.yaml").write_text(shape, encoding="utf-8")
    update = {"phase": "mlm", "gradient_accumulation_steps": 2, "preset": str(tmp_path / "dropout.yaml")}
    return settings.model_copy(update=update)


@pytest.mark.slow
def test_f19_an_interrupted_and_resumed_masked_run_is_bit_for_bit_the_uninterrupted_one(
    text_file: Path,
    tokenizer_dir: Path,
    masked: TrainSettings,
    tmp_path: Path,
    interrupted_at: Any,
) -> None:
    whole = train([str(text_file)], tmp_path / "whole", masked, tokenizer=tokenizer_dir)
    with interrupted_at(7), pytest.raises(Interrupted, match="lifelong resume"):
        train([str(text_file)], tmp_path / "cut", masked, tokenizer=tokenizer_dir)
    result = resume(tmp_path / "cut")
    names = [path / "model.safetensors" for path in (tmp_path / "whole", tmp_path / "cut")]
    assert sha256_file(names[0]) == sha256_file(names[1])
    same = ("step", "loss", "grad_norm", "lr", "tokens", "gate_loss")
    rows = [[{k: row.get(k) for k in same} for row in RunFolder(run).metrics()] for run in (whole.run, result.run)]
    assert rows[0] == rows[1]
    assert load_model(tmp_path / "whole")[0].config.dropout == 0.1
    # 15% of 2 x 4 rows of 32 tokens, at least one each; and a run further begins where this one ended.
    assert all(8 * 4 <= row["tokens"] <= 8 * 5 for row in RunFolder(whole.run).metrics())
    further = train([str(text_file)], tmp_path / "whole", masked.model_copy(update={"steps": 1}))
    assert further.before and whole.after
    assert further.before.loss == pytest.approx(whole.after.loss)


def test_the_measure_is_the_cross_entropy_of_hidden_tokens_and_padding_changes_nothing(
    text_file: Path, tokenizer_dir: Path, masked: TrainSettings, tmp_path: Path
) -> None:
    train([str(text_file)], tmp_path / "m", masked, tokenizer=tokenizer_dir)
    model, tokenizer = load_model(tmp_path / "m", device="cpu")
    assert isinstance(model, EncoderOnlyModel)
    texts = ["A short text.", "Another one, which is a little longer than the first.", "x", text_file.read_text()[:900]]
    documents = [Document(text, "here", "here") for text in texts]
    found = score(model, tokenizer, documents, sequence_length=32)
    windows = held_out_windows(model, tokenizer, documents, 32)
    nats = correct = 0.0
    for window in windows:
        ids, labels = torch.tensor([window.inputs]), torch.tensor([window.labels])
        hidden = labels != -100
        assert (ids[hidden] == model.config.mask_token_id).all() and hidden.any()
        with torch.no_grad():
            logits = model.predict_mlm(ids)[hidden]
        nats += float(torch.nn.functional.cross_entropy(logits, labels[hidden], reduction="sum"))
        correct += int((logits.argmax(1) == labels[hidden]).sum())
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.correct == correct
    # Every document alone has the score that it has beside the others.
    alone = [score(model, tokenizer, [document], sequence_length=32) for document in documents]
    assert found.nats == pytest.approx(sum(item.nats for item in alone), rel=1e-5)
    assert found.bytes == sum(item.bytes for item in alone) <= sum(len(text.encode()) for text in texts)


def test_a_bidirectional_model_without_a_mask_token_is_refused(
    text_file: Path, tokenizer_dir: Path, masked: TrainSettings, tmp_path: Path
) -> None:
    import json

    train([str(text_file)], tmp_path / "m", masked.model_copy(update={"steps": 1}), tokenizer=tokenizer_dir)
    stock = tmp_path / "stock"
    stock.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (stock / name).write_bytes((tmp_path / "m" / name).read_bytes())
    config = json.loads((stock / "config.json").read_text())
    del config["mask_token_id"]
    (stock / "config.json").write_text(json.dumps(config))
    with pytest.raises(LifelongError, match="no mask token"):
        train([str(text_file)], tmp_path / "n", masked, base=stock)
    model, tokenizer = load_model(stock)
    with pytest.raises(LifelongError, match="no mask token"):
        score(model, tokenizer, [Document("A text.", "here", "here")])
