"""Encoder-decoder models: trained, measured, resumed and asked by the verbs, and opened by transformers."""

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

from lifelong import (
    BPETokenizer,
    EncoderDecoderModel,
    Trainer,
    continue_training,
    create_dataloaders,
    extract_model_for_inference,
    load_model_and_tokenizer,
)
from lifelong.cli.app import main
from lifelong.evaluate.seq2seq import held_out_windows
from lifelong.files import sha256_file
from lifelong.tokens.pieces import spelled_bytes

PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 64, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
QUICK = ["--batch-size", "16", "--learning-rate", "1e-2"]
WORDS = "one two three four five six seven eight nine ten eleven twelve".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's own documentation, a tokenizer, a small shape, and questions with answers."""
    folder = tmp_path_factory.mktemp("seq2seq")
    texts = [text for _, text in sorted(topics.topics.items())]
    (folder / "topics.txt").write_text("\n\n\n".join(texts), encoding="utf-8")
    BPETokenizer(600).train(texts).save(folder / "bpe")
    (folder / "small.yaml").write_text(PRESET)
    rows = [{"question": f"After {a}, what of {b}?", "answer": f"I say {b}."} for a in WORDS for b in WORDS]
    (folder / "qa.json").write_text(json.dumps(rows))
    return folder


def train(place: Path, out: Path, *flags: str, data: str = "topics.txt", preset: bool = True) -> int:
    given = ["train", "--phase", "seq2seq", "--data", str(place / data), "--out", str(out), "--threads", "1"]
    new = ["--preset", str(place / "small.yaml"), "--tokenizer", str(place / "bpe")] if preset else []
    return main([*given, *new, "--sequence-length", "64", "--evaluation.max-bytes", "4000", *flags])


def asked(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    assert train(place, place / "m", *QUICK, "--steps", "100", "--evaluation.every-steps", "100") == 0
    return place / "m"


@pytest.fixture(scope="module")
def answers(place: Path) -> Path:
    assert train(place, place / "qa", *QUICK, "--steps", "140", "--evaluation.every-steps", "140", data="qa.json") == 0
    return place / "qa"


def test_f20_gaps_of_held_out_text_are_filled_better_than_by_frequencies(
    model: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(capsys, "evaluate", str(model), "--split", "test")
    assert found["objective"] == "written text"
    nats, tokens, size = by_frequency(model, place)
    assert (found["tokens"], found["bytes"]) == (tokens, size)
    assert found["bits_per_byte"] < 0.92 * nats / math.log(2) / size


def by_frequency(model: Path, place: Path) -> tuple[float, int, int]:
    """Return what is to be written costs by the frequencies of tokens, sentinels and ends in what was to be written."""
    from lifelong.learn.held import read_slices
    from lifelong.text import open_corpus

    _, tokenizer = load_model_and_tokenizer(model)
    train = open_corpus([str(place / "topics.txt")]).train
    counts = Counter(label for window in held_out_windows(tokenizer, train, 64) for label in window.labels)
    windows = held_out_windows(tokenizer, read_slices(model, ["base"], "test")["base"], 64)
    written = [label for window in windows for label in window.labels]
    total = counts.total() + tokenizer.vocab_size
    nats = sum(math.log(total) - math.log(counts[token] + 1) for token in written)
    return nats, len(written), spelled_bytes(tokenizer, written, {})


def test_f20_stock_transformers_opens_the_directory_and_has_the_same_loss(model: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    ours, tokenizer = load_model_and_tokenizer(model, device="cpu")
    theirs, info = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    stock = AutoTokenizer.from_pretrained(model)
    assert stock.convert_tokens_to_ids("<extra_id_0>") == 699 and stock.convert_tokens_to_ids("<extra_id_99>") == 600
    read = stock("The <extra_id_0> is used to define a class.", return_tensors="pt").input_ids
    labels = stock("<extra_id_0> class statement<|endoftext|>", return_tensors="pt").input_ids
    assert (read == 699).sum() == 1 and labels[0, 0] == 699 and labels[0, -1] == tokenizer.eos_id
    with torch.no_grad():
        expected = theirs.eval()(input_ids=read, labels=labels).loss * labels.numel()
    assert float(ours.loss_sum(read, labels)) == pytest.approx(float(expected), rel=1e-4)
    # Padding on either side changes nothing.
    wide = torch.cat([read, torch.full_like(read, 7)], dim=1)
    segments = torch.cat([torch.zeros_like(read), torch.full_like(read, -1)], dim=1)
    late = torch.cat([labels, torch.full_like(labels, -100)], dim=1)
    assert float(ours.loss_sum(wide, late, segment_ids=segments)) == pytest.approx(float(expected), rel=1e-4)


def test_f20_questions_are_answered_from_the_command_line(
    answers: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((answers / "runs" / "0001-seq2seq" / "run.json").read_text())
    assert facts["after"]["bits_per_byte"] < 0.25 * facts["before"]["bits_per_byte"]
    question = "After seven, what of two?"
    found = asked(capsys, "generate", str(answers), "--prompt", question, "--temperature", "0", "--max-tokens", "40")
    assert found["texts"] == ["I say two."]
    # Greedily, transformers writes the same.
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    stock = AutoTokenizer.from_pretrained(answers)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(answers, dtype=torch.float32)
    chat = [{"role": "user", "content": question}]
    ids = stock.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = theirs.generate(**ids, do_sample=False, max_new_tokens=40)
    assert stock.decode(written[0], skip_special_tokens=True) == found["texts"][0]
    assert main(["generate", str(answers), "--prompt", question, "--temperature", "0"]) == 0
    assert capsys.readouterr().out.strip() == found["texts"][0]


def test_f20_text_is_written_into_the_gap_behind_a_prompt(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--max-tokens", "12", "--seed", "1", "--num-samples", "3"]
    found = asked(capsys, "generate", str(model), "--prompt", "The class statement is used to", *flags)
    assert len(found["texts"]) == 3 and any(found["texts"])
    assert not any("<extra_id" in text for text in found["texts"])


@pytest.mark.slow
def test_f20_an_interrupted_run_goes_on_bit_for_bit(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from lifelong.train import drive

    flags = ["--steps", "7", "--batch-size", "4", "--evaluation.every-steps", "100"]
    shape = PRESET.replace("model: {", "model: {dropout: 0.1, ")
    (tmp_path / "dropout.yaml").write_text(shape)
    flags += ["--preset", str(tmp_path / "dropout.yaml"), "--tokenizer", str(place / "bpe")]
    assert train(place, tmp_path / "whole", *flags, preset=False) == 0
    steps = drive.train_steps

    def interrupted(*given: Any, **options: Any) -> Any:
        for step in steps(*given, **options):
            if step.step == 4:
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(drive, "train_steps", interrupted)
    assert train(place, tmp_path / "cut", *flags, preset=False) == 130
    monkeypatch.setattr(drive, "train_steps", steps)
    assert main(["resume", str(tmp_path / "cut")]) == 0
    assert sha256_file(tmp_path / "cut" / "model.safetensors") == sha256_file(tmp_path / "whole" / "model.safetensors")


def test_f20_any_t5_is_a_base(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    base = tmp_path / "t5"
    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "relu"}
    T5ForConditionalGeneration(
        T5Config(vocab_size=640, decoder_start_token_id=5, pad_token_id=5, eos_token_id=0, **shape)
    ).save_pretrained(base)
    BPETokenizer.load(place / "bpe").write_files(base)
    out = tmp_path / "m"
    flags = ["--base", str(base), "--steps", "40", "--learning-rate", "1e-2", "--evaluation.every-steps", "40"]
    assert train(place, out, *flags, preset=False) == 0
    assert "rows, for sentinels" in " ".join(capsys.readouterr().err.split())
    facts = json.loads((out / "runs" / "0001-seq2seq" / "run.json").read_text())
    assert facts["after"]["bits_per_byte"] < 0.9 * facts["before"]["bits_per_byte"]
    config = json.loads((out / "config.json").read_text())
    assert (config["decoder_start_token_id"], config["pad_token_id"], config["vocab_size"]) == (5, 5, 700)
    # Training goes on from there, as with every model.
    assert train(place, out, "--steps", "2", preset=False) == 0
    assert "continuing training from it" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["learn", "MODEL", "TEXT", "--domain", "more"], "cannot be taught lessons"),
        (["train", "--data", "TEXT", "--out", "MODEL"], "cannot be trained with --phase pretrain"),
        (["train", "--data", "TEXT", "QA", "--out", "NEW", "--phase", "seq2seq", "--batch-size", "1"], "be mixed"),
    ],
)
def test_f20_what_such_a_model_cannot_do_is_refused(
    verb: list[str], said: str, model: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256_file(model / "model.safetensors")
    names = {"MODEL": model, "NEW": tmp_path / "m", "TEXT": place / "topics.txt", "QA": f"{place / 'qa.json'}@2"}
    assert main([str(names.get(word, word)) for word in verb]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert said in errors and "Traceback" not in errors
    assert sha256_file(model / "model.safetensors") == before


def test_f25_the_third_kind_of_model_goes_through_the_guides_scripts(place: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = BPETokenizer.load(place / "bpe")
    texts = [text for _, text in sorted(topics.topics.items())]
    train_dataloader, val_dataloader = create_dataloaders(
        train_texts=texts[:4],
        val_texts=[text[:3000] for text in texts[8:10]],
        tokenizer=tokenizer,
        batch_size=16,
        max_length=64,
    )
    config = {
        "model_type": "transformer",
        "vocab_size": tokenizer.vocab_size,
        "d_model": 64,
        "num_heads": 4,
        "num_layers": 1,
        "d_ff": 128,
        "max_seq_len": 64,
        "dropout": 0.1,
    }
    model = EncoderDecoderModel(config)
    trainer = Trainer(
        model=model,
        train_dataloader=train_dataloader,
        val_dataloader=val_dataloader,
        learning_rate=1e-2,
        checkpoint_dir=tmp_path / "checkpoints",
        early_stopping_patience=2,
    )
    results = trainer.train(epochs=3)
    assert results["best_val_loss"] < 0.8 * results["before"]
    results = continue_training(
        model_path=str(tmp_path / "checkpoints" / "best_model"),
        train_dataloader=train_dataloader,
        val_dataloader=val_dataloader,
        learning_rate=1e-3,
        epochs=1,
        checkpoint_dir=str(tmp_path / "continued"),
    )
    assert results["best_val_loss"] < results["before"]
    path = extract_model_for_inference(results["best_model"], tmp_path / "inference")
    loaded, words = load_model_and_tokenizer(path)
    assert isinstance(loaded, EncoderDecoderModel) and words.fingerprint == tokenizer.fingerprint
    read, write = torch.tensor([tokenizer.encode("The yield")]), torch.tensor([[0, 5, 6]])
    assert loaded(read, torch.ones_like(read), write).shape == (1, 3, 700)


def test_f20_one_answer_is_one_row_and_the_prompt_is_what_stands_before_it(place: Path, tmp_path: Path) -> None:
    from lifelong.text.document import Document
    from lifelong.tokens.building import build_cache
    from lifelong.tokens.pairs import PairSource

    tokenizer = BPETokenizer.load(place / "bpe")
    turns = [
        ("user", "Name one of the statements."),
        ("assistant", "yield"),
        ("user", "And another?"),
        ("assistant", "lambda is one"),
    ]
    messages = tuple({"role": role, "content": content} for role, content in turns)
    chat = Document("\n".join(content for _, content in turns), "chat", "chat", "chat", messages=messages)
    source = PairSource(build_cache([chat], tokenizer, tmp_path / "cache"), 64)
    ids, labels, segments = source.rows(np.array([0, 1]))
    assert segments is not None and len(source) == 2 and not source.skipped + source.truncated
    spelled = [tokenizer.decode(labels[row][labels[row] != -100].tolist(), False) for row in range(2)]
    assert spelled == ["yield<|end|>", "lambda is one<|end|>"]
    prompt = tokenizer.encode_chat(list(messages[:3]), add_generation_prompt=True)[0]
    assert ids[1][segments[1] == 0].tolist() == prompt
    short = PairSource(source.cache, 8)
    assert short.truncated == 2 and short.rows(np.array([1]))[0][0].tolist() == prompt[-8:]
