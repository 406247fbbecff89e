"""The tokenizer: round trips, special tokens, the chat format, and its files."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.tokens import BPETokenizer
from lifelong.tokens.tokenizer import SMALLEST, SPECIAL_TOKENS

_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is <|end|> 2024?\n"},
    {"role": "assistant", "content": "A märker.\n\n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "```\n  x = 1\n```"},
]


def _texts() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    return [(library / name).read_text(encoding="utf-8") for name in ("textwrap.py", "shutil.py", "argparse.py")]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(vocab_size=800).train(_texts())


_TOKENIZER = BPETokenizer(vocab_size=600).train(_texts())  # for properties: hypothesis and fixtures do not mix well


@given(st.text())
@example("<|endoftext|><|user|>x<|end|>")
@example(" \n\t  \r\n 123 \u00e4\u4e2d\U0001f600\0")
def test_every_string_survives_the_round_trip(text: str) -> None:
    ids = _TOKENIZER.encode(text)
    assert _TOKENIZER.decode(ids) == _TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "user", " ", "\n", "<"])))
def test_typed_special_tokens_stay_text(pieces: list[str]) -> None:
    special = {_TOKENIZER.eos_id, _TOKENIZER.end_of_turn_id} | _TOKENIZER.role_token_ids
    text = "".join(pieces)
    assert not special & set(_TOKENIZER.encode(text))
    ids, _ = _TOKENIZER.encode_chat([{"role": "user", "content": text}])
    assert sum(token in special for token in ids) == 2


def test_special_ids(tokenizer: BPETokenizer) -> None:
    assert tokenizer.vocab_size == 800
    assert tokenizer.eos_id == tokenizer.pad_id == 0
    assert {tokenizer.eos_id, tokenizer.end_of_turn_id} | tokenizer.role_token_ids == set(range(5))


def test_digits_are_split_singly(tokenizer: BPETokenizer) -> None:
    assert [tokenizer.decode([token]) for token in tokenizer.encode("2024")] == list("2024")


def test_training_is_repeatable_and_takes_an_iterator(tokenizer: BPETokenizer) -> None:
    again = BPETokenizer(vocab_size=800).train(iter(_texts()))
    assert again.fingerprint == tokenizer.fingerprint
    assert BPETokenizer(vocab_size=801).train(_texts()).fingerprint != tokenizer.fingerprint


def test_batches_encode_as_single_texts(tokenizer: BPETokenizer) -> None:
    texts = ["one", "", "two three"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_chat_trains_on_answers_only(tokenizer: BPETokenizer) -> None:
    ids, trained = tokenizer.encode_chat(_CHAT)
    assert len(ids) == len(trained)
    learned = [token for token, is_trained in zip(ids, trained, strict=True) if is_trained]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "A märker.\n\n<|end|>```\n  x = 1\n```<|end|>"
    whole = "".join(f"<|{message['role']}|>{message['content']}<|end|>" for message in _CHAT)
    assert tokenizer.decode(ids, skip_special_tokens=False) == whole
    prompt, prompt_trained = tokenizer.encode_chat(_CHAT[:2], add_generation_prompt=True)
    assert ids[: len(prompt)] == prompt
    assert not any(prompt_trained)
    assert tokenizer.encode_chat([]) == ([], [])
    with pytest.raises(LifelongError, match="unknown role 'robot'"):
        tokenizer.encode_chat([{"role": "robot", "content": "x"}])


def test_saved_directory_loads_again(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tok")
    tokenizer.save(tmp_path / "tok")  # ours, so it may be replaced
    tokenizer.save(tmp_path / "alone.json")
    assert {path.name for path in (tmp_path / "tok").iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "manifest.json",
    }
    for place in (tmp_path / "tok", tmp_path / "tok" / "tokenizer.json", tmp_path / "alone.json"):
        loaded = BPETokenizer.load(place)
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.encode_chat(_CHAT) == tokenizer.encode_chat(_CHAT)


def test_transformers_reads_it_alike(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "tok")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "tok")
    text = "def f(x):\n    return x  # märk 2024\n"
    assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (0, 0, 0)
    assert len(theirs) == tokenizer.vocab_size
    # A template works on text, where a typed special token cannot be told from a real one: leave it out here.
    chat = [{**message, "content": message["content"].replace("<|end|>", "")} for message in _CHAT]
    for messages, prompt in ((chat, False), (chat[:2], True)):
        wanted, _ = tokenizer.encode_chat(messages, add_generation_prompt=prompt)
        found = theirs.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True, return_dict=True)
        assert found["input_ids"] == wanted


def test_a_vocabulary_larger_than_the_text_supports() -> None:
    with pytest.raises(LifelongError, match=r"supports a vocabulary of (\d+) tokens at most, 5000") as caught:
        BPETokenizer(vocab_size=5000).train(["the cat sat on the mat " * 3])
    assert caught.value.fix is not None
    supported = int(caught.value.fix.split("--vocab-size ")[1].split()[0])
    assert BPETokenizer(vocab_size=supported).train(["the cat sat on the mat " * 3]).vocab_size == supported
    with pytest.raises(LifelongError, match="too little text"):
        BPETokenizer().train([])
    with pytest.raises(LifelongError, match="too small"):
        BPETokenizer(vocab_size=SMALLEST - 1)


def test_refusals(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="not trained"):
        BPETokenizer().encode("x")
    with pytest.raises(LifelongError, match="not trained"):
        BPETokenizer().save(tmp_path / "tok")
    with pytest.raises(LifelongError, match="surrogate"):
        tokenizer.encode("\ud800")
    with pytest.raises(LifelongError, match="no tokenizer here"):
        BPETokenizer.load(tmp_path)
    with pytest.raises(LifelongError, match="file not found"):
        BPETokenizer.load(tmp_path / "x.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(LifelongError, match=r"not a tokenizer\.json"):
        BPETokenizer.load(tmp_path / "bad.json")
    foreign = json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})
    (tmp_path / "bad.json").write_text(foreign)
    with pytest.raises(LifelongError, match="lacks the special tokens"):
        BPETokenizer.load(tmp_path / "bad.json")
    with pytest.raises(LifelongError, match="never overwritten"):
        tokenizer.save(tmp_path)
    tokenizer.save(tmp_path / "tok")
    (tmp_path / "tok" / "tokenizer_config.json").unlink()
    with pytest.raises(LifelongError, match=r"tokenizer_config\.json is missing"):
        BPETokenizer.load(tmp_path / "tok")
