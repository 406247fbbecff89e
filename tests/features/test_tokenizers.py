"""Tokenizers from the command line, on the standard library's own text."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from lifelong.cli.app import main
from lifelong.tokens import BPETokenizer, load_tokenizer

_LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("data")
    for folder, pattern, count in (("code", "[a-c]*.py", 20), ("mail", "email/*.py", 10)):
        (root / folder).mkdir()
        for path in sorted(_LIBRARY.glob(pattern))[:count]:
            shutil.copy(path, root / folder / path.name)
    for number, path in enumerate(sorted((_LIBRARY / "json").glob("*.py"))):
        (root / f"note{number}.md").write_text(f"# {path.name}\n\n```python\n{path.read_text()}```\n")
    return root


def _json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_f01_train_a_byte_level_tokenizer(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tok"
    flags = ["--out", str(out), "--vocab-size", "1000", "--min-frequency", "3"]
    result = _json(["tokenizer", "train", str(data / "code"), str(data / "mail"), *flags], capsys)
    assert (result["vocab_size"], result["kind"]) == (1000, "bpe")
    assert set(result["sources"]) == {str(data / "code"), str(data / "mail")}
    size = sum(path.stat().st_size for path in data.rglob("*.py"))
    assert result["bytes"] < 0.95 * size  # gate and test were not learned from
    tokenizer = load_tokenizer(out)
    text = (data / "code" / "ast.py").read_text()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert AutoTokenizer.from_pretrained(out)(text)["input_ids"] == tokenizer.encode(text)
    assert BPETokenizer.load(out).fingerprint == result["fingerprint"] == tokenizer.fingerprint
    # As the guide does it in Python.
    trained = BPETokenizer(vocab_size=1000, min_frequency=3).train(path.read_text() for path in data.rglob("*.py"))
    trained.save(tmp_path / "mine.json")
    assert BPETokenizer.load(tmp_path / "mine.json").vocab_size == 1000


def test_f01_defaults_are_the_guide_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", "train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: 8000 for bpe, 16000 for sentencepiece)" in shown
    assert "How often a pair must occur to be merged (bpe). [default: 2]" in shown


def test_f02_train_sentencepiece_from_globs_with_budgets(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [f"{data}/**/*.md", f"{data}/code/*.py", str(data / "mail")]
    flags = ["--kind", "sentencepiece", "--vocab-size", "1200", "--seed", "42", "--bytes", "mail=40_000"]
    arguments = ["tokenizer", "train", *sources, *flags]
    result = _json([*arguments, "--out", str(tmp_path / "tok")], capsys)
    assert set(result["sources"]) == set(sources)
    mail = result["sources"][str(data / "mail")]
    assert 0 < mail["bytes"] <= 40_000 < mail["available_bytes"]
    again = _json([*arguments, "--out", str(tmp_path / "again")], capsys)
    assert again["fingerprint"] == result["fingerprint"]
    tokenizer = load_tokenizer(tmp_path / "tok")
    ids = {role: tokenizer.role_id(role) for role in ("system", "user", "assistant")}
    assert (ids, tokenizer.end_of_turn_id) == ({"system": 3, "user": 4, "assistant": 5}, 6)
    library = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tok" / "spm.model"))
    text = (data / "code" / "ast.py").read_text()
    assert (
        tokenizer.encode(text)
        == library.encode(text)
        == AutoTokenizer.from_pretrained(tmp_path / "tok")(text)["input_ids"]
    )
    # The model file alone is enough, and stays what it was.
    loaded = load_tokenizer(tmp_path / "tok" / "spm.model")
    assert loaded.encode(text) == library.encode(text)
    assert (loaded.role_id("system"), loaded.end_of_turn_id, loaded.vocab_size) == (3, 6, 1200)
    shown = _json(["tokenizer", "show", str(tmp_path / "tok" / "spm.model"), "--text", "self is 12"], capsys)
    assert shown["ids"] == library.encode("self is 12")


def test_f02_settings_from_a_file_and_what_is_wrong_with_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tok.yaml"
    config.write_text("kind: sentencepiece\nmodel_type: bpe\nvocab_size: 900\nsource_bytes: {code: 100000}\n")
    arguments = ["tokenizer", "train", str(data / "code"), "--out", str(tmp_path / "tok"), "--config", str(config)]
    dry = _json([*arguments, "--dry-run"], capsys)
    assert dry["out"] is None and not (tmp_path / "tok").exists()
    assert dry["bytes"] <= 100_000
    assert _json(arguments, capsys)["vocab_size"] == 900
    for flag, message in (
        ("cod=5", "Did you mean 'code'"),
        ("code", "NAME=BYTES"),
        ("code=0", "NAME=BYTES"),
    ):
        assert main(["tokenizer", "train", str(data / "code"), "--out", str(tmp_path / "x"), "--bytes", flag]) == 2
        assert message in capsys.readouterr().err
    assert main(["tokenizer", "train", str(data / "code"), "--out", str(data)]) == 2  # holds the user's own files
    assert "never overwritten" in capsys.readouterr().err


def test_a_balanced_sample_takes_equal_bytes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tokenizer", "train", str(data / "code"), str(data / "mail"), "--out", str(tmp_path / "t")]
    result = _json([*arguments, "--vocab-size", "600", "--balance", "--max-bytes", "150_000", "--dry-run"], capsys)
    sizes = [part["bytes"] for part in result["sources"].values()]
    assert all(0 < size <= 75_000 for size in sizes)
    assert main([*arguments, "--vocab-size", "600", "--balance"]) == 0
    assert "documents were drawn" in capsys.readouterr().err


@pytest.fixture(scope="module")
def foreign(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as others make them: GPT-2's kind, with a template that puts a token before every text."""
    out: Path = tmp_path_factory.mktemp("foreign")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<s>", "<|user|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([path.read_text() for path in (data / "code").glob("*.py")], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<s>"}, "chat_template": "x"}))
    return out


def test_import_keeps_ids_and_says_what_it_adds(
    foreign: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tok"
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "m"), "--tokenizer", str(foreign)]) == 2
    assert "lifelong tokenizer import" in capsys.readouterr().err
    result = _json(["tokenizer", "import", str(foreign), "--out", str(out)], capsys)
    assert result["vocab_size"] == 803
    assert result["eos_id"] == 1
    assert result["role_token_ids"] == {"system": 800, "user": 2, "assistant": 801}
    assert "added to the vocabulary, from id 800: <|system|> <|assistant|> <|end|>" in result["changes"]
    assert any("post_processor was taken out" in change for change in result["changes"])
    assert any("chat template" in change for change in result["changes"])
    theirs = Tokenizer.from_file(str(foreign / "tokenizer.json"))
    tokenizer = load_tokenizer(out)
    texts = [path.read_text() for path in sorted((data / "mail").glob("*.py"))]
    wanted = [found.ids for found in theirs.encode_batch(texts, add_special_tokens=False)]
    assert tokenizer.encode_batch(texts) == wanted
    assert tokenizer.encode_flat(texts)[0].tolist() == [token for ids in wanted for token in ids]
    assert not set(tokenizer.encode("<s><|user|><|end|>")) & tokenizer.special_ids
    auto = AutoTokenizer.from_pretrained(out)
    assert auto(texts[0])["input_ids"] == wanted[0]
    assert main(["tokenizer", "import", str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == 2
    assert "no tokenizer here" in capsys.readouterr().err


def test_import_a_vocabulary_that_spells_special_tokens(data: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>", "<|user|>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([path.read_text() for path in (data / "mail").glob("*.py")], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert main(["tokenizer", "import", str(tmp_path / "tokenizer.json"), "--out", str(tmp_path / "out")]) == 0
    imported = load_tokenizer(tmp_path / "out")
    ids = imported.encode("say <|user|> or </s>")
    assert not set(ids) & imported.special_ids
    assert imported.encode("self.x") == tokenizer.encode("self.x").ids


def test_show_and_compare(foreign: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    train = ["tokenizer", "train", str(data / "code"), "--vocab-size", "700", "--out", str(ours)]
    assert main(train) == main(["tokenizer", "import", str(foreign), "--out", str(theirs)]) == 0
    capsys.readouterr()
    assert main(["tokenizer", "show", str(ours), "--text", "<|user|>self.中\n", "--special"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("<|user|>|self|.|<0xE4>|<0xB8>|<0xAD>|\u23ce\n\n")
    assert main(["tokenizer", "show", str(ours), "--text", "<|user|>"]) == 0
    assert "<|user|>" not in capsys.readouterr().out
    result = _json(["tokenizer", "compare", str(ours), str(theirs), "--data", str(data), "--split", "gate"], capsys)
    rows = result["tokenizers"]
    assert [row["vocab_size"] for row in rows] == [700, 803]
    for row in rows:
        assert row["bytes_per_token"] == pytest.approx(result["bytes"] / row["tokens"])
        assert (row["unknown"], row["round_trips"]) == (0, 1)
        assert row["megabytes_per_second"] > 0
    assert main(["tokenizer", "compare", str(ours), str(theirs), "--data", str(data)]) == 0
    table = capsys.readouterr().out
    assert "B/token" in table and "theirs" in table and "\u2026" not in table
