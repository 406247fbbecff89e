"""Masked-language models: trained and measured by the verbs, and opened by transformers."""

from __future__ import annotations

import json
import math
import pydoc_data.topics as topics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lifelong.cli.app import main
from lifelong.evaluate.masked import held_out_windows
from lifelong.files import sha256_file
from lifelong.model.directory import load_model
from lifelong.tokens.tokenizer import BPETokenizer

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 64, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's own documentation in two files, a tokenizer and a small shape."""
    folder = tmp_path_factory.mktemp("masked")
    texts = [text for _, text in sorted(topics.topics.items())]
    (folder / "topics.txt").write_text("\n\n\n".join(texts), encoding="utf-8")
    BPETokenizer(600).train(texts).save(folder / "bpe")
    (folder / "small.yaml").write_text(PRESET)
    return folder


def train(place: Path, out: Path, *flags: str, phase: str = "mlm") -> int:
    given = ["--data", str(place / "topics.txt"), "--preset", str(place / "small.yaml"), "--phase", phase]
    fixed = ["--batch-size", "16", "--sequence-length", "64", "--threads", "1", "--tokenizer", str(place / "bpe")]
    return main(["train", *given, *fixed, "--out", str(out), "--evaluation.max-bytes", "4000", *flags])


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    assert (
        train(place, place / "m", "--steps", "300", "--learning-rate", "1e-2", "--evaluation.every-steps", "300") == 0
    )
    return place / "m"


def test_f19_a_masked_model_tells_hidden_tokens_better_than_their_frequencies(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(model), "--split", "test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["objective"] == "hidden tokens"
    loss, accuracy, tokens = unigram(model, place)
    assert found["tokens"] == tokens
    assert found["loss"] < 0.85 * loss
    assert found["token_accuracy"] > 2 * accuracy
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def unigram(model: Path, place: Path) -> tuple[float, float, int]:
    """Return loss and accuracy of token frequencies alone, on the tokens that `evaluate` hides."""
    from lifelong.learn.held import read_slices
    from lifelong.text import open_corpus

    network, tokenizer = load_model(model)
    counts: Counter[int] = Counter()
    for ids in tokenizer.encode_batch([document.text for document in open_corpus([str(place / "topics.txt")]).train]):
        counts.update(ids)
    windows = held_out_windows(network, tokenizer, read_slices(model, ["base"], "test")["base"], 64)
    hidden = [label for window in windows for label in window.labels if label != -100]
    total, likeliest = counts.total() + tokenizer.vocab_size, counts.most_common(1)[0][0]
    nats = [math.log(total) - math.log(counts[token] + 1) for token in hidden]
    return float(np.mean(nats)), hidden.count(likeliest) / len(hidden), len(hidden)


def test_f19_the_directory_gives_the_same_logits_in_transformers_and_its_tokenizer_knows_the_mask(model: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

    ours, tokenizer = load_model(model, device="cpu")
    theirs, info = AutoModelForMaskedLM.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(theirs).__name__ == "EuroBertForMaskedLM"
    stock = AutoTokenizer.from_pretrained(model)
    assert stock.mask_token_id == theirs.config.mask_token_id == ours.config.mask_token_id == tokenizer.vocab_size
    assert stock.vocab_size <= ours.config.vocab_size
    fill = pipeline("fill-mask", model=theirs, tokenizer=stock, device="cpu")
    assert {"score", "token_str"} <= fill("The <|mask|> statement is used to define a class.")[0].keys()
    ids = stock("The <|mask|> statement is used to define a class.", return_tensors="pt")["input_ids"]
    assert (ids == stock.mask_token_id).sum() == 1
    with torch.no_grad():
        torch.testing.assert_close(ours.predict_mlm(ids), theirs.eval()(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    # A text that says <|mask|> hides nothing here, as with all special tokens.
    assert stock.mask_token_id not in tokenizer.encode("a <|mask|> b")


def test_f19_the_tokenizer_of_a_masked_model_is_the_given_one_so_caches_fit(
    model: Path, place: Path, tmp_path: Path
) -> None:
    assert sha256_file(model / "tokenizer.json") == sha256_file(place / "bpe" / "tokenizer.json")
    assert not (model / "generation_config.json").exists()
    cache = [
        "cache",
        "build",
        str(place / "topics.txt"),
        "--tokenizer",
        str(place / "bpe"),
        "--out",
        str(tmp_path / "c"),
    ]
    assert main(cache) == 0
    given = [
        "train",
        "--data",
        str(tmp_path / "c" / "pretrain" / "topics"),
        "--phase",
        "mlm",
        "--out",
        str(model),
        "--steps",
        "2",
    ]
    assert main([*given, "--threads", "1", "--evaluation.max-bytes", "1000", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["generate", "MODEL", "--prompt", "The"], "cannot write text"),
        (["chat", "MODEL"], "cannot hold a conversation"),
        (["learn", "MODEL", "TEXT", "--domain", "more"], "cannot be taught lessons"),
        (["train", "--data", "TEXT", "--out", "MODEL"], "reads in both directions"),
        (["train", "--data", "TEXT", "--out", "MODEL", "--phase", "sft"], "--phase sft"),
    ],
)
def test_f19_what_a_masked_model_cannot_do_is_refused(
    verb: list[str], said: str, model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256_file(model / "model.safetensors")
    chats = place / "chat.jsonl"
    turns = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "It is a word."}]
    chats.write_text("".join(json.dumps({"messages": turns, "id": n}) + "\n" for n in range(40)))
    names = {"MODEL": str(model), "TEXT": str(chats if "sft" in verb else place / "topics.txt")}
    assert main([names.get(word, word) for word in verb]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert said in errors and "Traceback" not in errors
    assert sha256_file(model / "model.safetensors") == before


@pytest.mark.slow
def test_f19_a_causal_model_is_not_trained_with_hidden_tokens(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(place, tmp_path / "m", "--steps", "1", phase="pretrain") == 0
    assert train(place, tmp_path / "m", "--steps", "1") == 2
    assert "--fresh" in capsys.readouterr().err
    assert train(place, tmp_path / "m", "--steps", "1", "--fresh") == 0
    assert not load_model(tmp_path / "m")[0].config.causal
    assert not (tmp_path / "m" / "generation_config.json").exists()


def test_f19_an_encoder_is_built_from_the_guides_dictionary() -> None:
    from lifelong import EncoderOnlyModel

    config: dict[str, Any] = {
        "model_type": "encoder_only", "vocab_size": 10000, "d_model": 256, "num_heads": 4, "num_layers": 4,
        "d_ff": 1024, "max_seq_len": 512, "dropout": 0.1,
    }  # fmt: skip
    model = EncoderOnlyModel(config).eval()
    assert model.config.dropout == 0.1
    input_ids = torch.randint(0, 10000, (2, 16))
    attention_mask = torch.ones(2, 16, dtype=torch.long)
    with torch.no_grad():
        assert model(input_ids, attention_mask).shape == (2, 16, 256)
        assert model.predict_mlm(input_ids, attention_mask).shape == (2, 16, 10000)


@pytest.mark.slow
def test_f19_conversations_are_read_whole_and_earlier_text_is_replayed(
    model: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(model, tmp_path / "m")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} plus {n}?"},
                {"role": "assistant", "content": f"{2 * n}."},
            ]
        }
        for n in range(400)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["train", "--data", str(tmp_path / "sums.jsonl"), "--phase", "mlm", "--domain", "sums", "--replay", "0.5"]
    assert main([*given, "--out", str(tmp_path / "m"), "--steps", "20", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # The question is read and guessed, too: 15% of 20 x 8 rows of 64, less their special tokens.
    assert 0.1 * 20 * 8 * 64 < found["tokens"] < 0.15 * 20 * 8 * 64
    assert found["after"]["loss"] < found["before"]["loss"]
    assert main(["evaluate", str(tmp_path / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["domains"].keys() == {"base", "sums"}


def test_f19_a_shape_that_reads_in_both_directions_is_not_pretrained(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = PRESET.replace("model: {", "model: {causal: false, ")
    (tmp_path / "both.yaml").write_text(both)
    given = ["train", "--data", str(place / "topics.txt"), "--tokenizer", str(place / "bpe"), "--steps", "1"]
    assert main([*given, "--preset", str(tmp_path / "both.yaml"), "--out", str(tmp_path / "m")]) == 2
    assert "cannot be trained with --phase pretrain" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "m" / "model.safetensors").exists()
