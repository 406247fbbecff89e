"""Lists of texts and batches of them, as a training loop of one's own takes them."""

from __future__ import annotations

import pydoc_data.topics as topics
from pathlib import Path

import pytest
import torch

from lifelong import BPETokenizer, DataSource, create_dataloaders, load_and_split_data
from lifelong.errors import LifelongError

_TEXTS = [text for _, text in sorted(topics.topics.items())][:12]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.txt"
    path.write_text("\n\n".join(_TEXTS), encoding="utf-8")
    return path


def test_f26_a_file_is_split_and_becomes_batches(file: Path, tmp_path: Path) -> None:
    train_texts, val_texts, _ = load_and_split_data(
        file_path=str(file), split_method="paragraph", val_split=0.1, test_split=0.0
    )
    tokenizer = BPETokenizer(vocab_size=600)
    tokenizer.train(train_texts)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = BPETokenizer.load(str(tmp_path / "tokenizer.json"))
    train_dataloader, val_dataloader = create_dataloaders(
        train_texts=train_texts, val_texts=val_texts, tokenizer=tokenizer, batch_size=16, max_length=64
    )
    assert val_dataloader is not None
    assert 0.02 < len(val_texts) / (len(train_texts) + len(val_texts)) < 0.2
    assert not set(train_texts) & set(val_texts)
    batches = list(train_dataloader)
    assert len(batches) == len(train_dataloader)
    for batch in batches:
        assert set(batch) == {"input_ids", "labels", "attention_mask"}
        assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
        assert batch["input_ids"].shape[1] <= 64
        real = batch["attention_mask"] == 1
        assert torch.equal(batch["labels"][real], batch["input_ids"][real])
        assert (batch["labels"][~real] == -100).all()
    # Nothing is lost: all tokens of all texts, and an end for each.
    total = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert total == sum(len(tokenizer.encode(text)) + 1 for text in train_texts)
    again = list(train_dataloader)
    assert any(not torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(batches, again, strict=True))
    train_dataloader.epoch = 0
    same = list(train_dataloader)
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(batches, same, strict=True))
    in_order = [ids for batch in val_dataloader for ids in batch["input_ids"].tolist()]
    assert tokenizer.decode(in_order[0]).strip().startswith(val_texts[0][:20].strip())


def test_f26_batches_fit_transformers(file: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    train_texts, _, _ = load_and_split_data(str(file))
    tokenizer = BPETokenizer(400).train(train_texts)
    batches, _ = create_dataloaders(train_texts, [], tokenizer, batch_size=4, max_length=32)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    assert model(**next(iter(batches))).loss.item() > 0


@pytest.mark.parametrize("method", ["paragraph", "sentence", "line", "document"])
def test_f26_split_methods_keep_all_words(method: str, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nOne. Two! Three?\n", encoding="utf-8")
    train, val, test = load_and_split_data([DataSource(file), str(folder)], method, 0.2, 0.2, seed=1)
    words = sorted(word for text in [*train, *val, *test] for word in text.split())
    assert words == sorted(f"{' '.join(_TEXTS)} # A One. Two! Three?".split())
    # The same text never lies in two splits.
    assert not set(train) & set(val)
    assert not set(train) & set(test)


def test_refusals(file: Path) -> None:
    with pytest.raises(LifelongError, match="unknown split method 'paragraf'. Did you mean 'paragraph'"):
        load_and_split_data(file, "paragraf")
    with pytest.raises(LifelongError, match="leave nothing to train on"):
        load_and_split_data(file, val_split=0.6, test_split=0.4)
    with pytest.raises(LifelongError, match="no texts"):
        create_dataloaders([], [], BPETokenizer(300).train(_TEXTS))
    with pytest.raises(LifelongError, match="must be positive"):
        create_dataloaders(["a"], [], BPETokenizer(300).train(_TEXTS), batch_size=0)
