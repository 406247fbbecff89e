"""SentencePiece: round trips, the library's ids, transformers' ids, and models made elsewhere."""

from __future__ import annotations

import io
import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lifelong.errors import LifelongError
from lifelong.tokens import load_tokenizer
from lifelong.tokens.imported import import_tokenizer
from lifelong.tokens.sentencepiece import SentencePieceTokenizer
from lifelong.tokens.special import SpecialTokens
from lifelong.tokens.spm import read_spm

_LIBRARY = Path(sysconfig.get_path("stdlib"))
_TEXTS = [(_LIBRARY / name).read_text(encoding="utf-8") for name in ("textwrap.py", "shutil.py", "argparse.py")]
_HELD = [(_LIBRARY / name).read_text(encoding="utf-8") for name in ("heapq.py", "statistics.py", "this.py")]
_TYPES = ("unigram", "bpe")
_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Why  twice?\n"},
    {"role": "assistant", "content": "\tMärker 12\n\n"},
]
_STRINGS = st.lists(
    st.one_of(
        st.sampled_from(list("aeé中 Ж12<|>/0x4_us\n\t\r\0\u0301\u3000\u2585😀")),
        st.sampled_from(["<|user|>", "</s>", "<unk>", "<0x41>", "  ", "\n\n", " the", "self."]),
        st.text(max_size=5),
    ),
    max_size=15,
).map("".join)


@pytest.fixture(scope="module", params=_TYPES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("spm") / request.param
    SentencePieceTokenizer(1200, request.param).train(_TEXTS).save(out)
    return out


@pytest.fixture(scope="module")
def tokenizer(place: Path) -> SentencePieceTokenizer:
    loaded = load_tokenizer(place)
    assert isinstance(loaded, SentencePieceTokenizer)
    return loaded


_TRAINED = {kind: SentencePieceTokenizer(1200, kind).train(_TEXTS) for kind in _TYPES}  # type: ignore[arg-type]
_THEIRS = {
    kind: sentencepiece.SentencePieceProcessor(model_proto=tokenizer._spm) for kind, tokenizer in _TRAINED.items()
}


@pytest.mark.parametrize("kind", _TYPES)
@given(text=_STRINGS)
@example(" ")
@example("\u2581 \u2581\u2581a")
@example("a\n\n    b\tc\0d  \r\n")
@settings(max_examples=200)
def test_every_string_survives_and_nothing_typed_is_special(kind: str, text: str) -> None:
    tokenizer = _TRAINED[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & set(range(7))
    assert tokenizer.encode_flat([text, text])[0].tolist() == ids * 2


@pytest.mark.parametrize("kind", _TYPES)
@given(text=_STRINGS)
@settings(max_examples=200)
def test_ids_are_the_library_s(kind: str, text: str) -> None:
    # U+2581 is the library's own sign for a space; what is spelled like an entry is cut at its first character here.
    text = text.replace("\u2581", "").replace("<", "")
    assert _TRAINED[kind].encode(text) == _THEIRS[kind].encode(text)


def test_real_text_has_one_encoding_everywhere(tokenizer: SentencePieceTokenizer, place: Path) -> None:
    library = sentencepiece.SentencePieceProcessor(model_file=str(place / "spm.model"))
    auto = AutoTokenizer.from_pretrained(place)
    for text in (*_TEXTS, *_HELD):
        ids = tokenizer.encode(text)
        assert ids == library.encode(text) == auto(text)["input_ids"] == tokenizer.encode_flat([text])[0].tolist()
        assert auto.decode(ids) == text


def test_special_ids_and_the_chat_of_transformers(tokenizer: SentencePieceTokenizer, place: Path) -> None:
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.end_of_turn_id) == (2, 2, 6)
    assert [tokenizer.role_id(role) for role in ("system", "user", "assistant")] == [3, 4, 5]
    auto = AutoTokenizer.from_pretrained(place)
    assert (auto.unk_token_id, auto.bos_token_id, auto.eos_token_id, len(auto)) == (0, 1, 2, 1200)
    for prompt in (False, True):
        wanted, _ = tokenizer.encode_chat(_CHAT, add_generation_prompt=prompt)
        found = auto.apply_chat_template(_CHAT, add_generation_prompt=prompt, tokenize=True, return_dict=True)
        assert found["input_ids"] == wanted
    # transformers takes a typed role for the role, unless it is told not to: what users type must be told apart.
    assert auto("<|user|>")["input_ids"] == [4]
    assert auto("<|user|>", split_special_tokens=True)["input_ids"] == tokenizer.encode("<|user|>")


def test_training_is_repeatable(tokenizer: SentencePieceTokenizer, place: Path) -> None:
    again = SentencePieceTokenizer(1200, place.name).train(iter(_TEXTS))  # type: ignore[arg-type]
    assert again.fingerprint == tokenizer.fingerprint
    assert again._spm == (place / "spm.model").read_bytes()


def test_a_text_with_the_trainer_s_own_signs_is_not_dropped() -> None:
    marked = [text.replace("import", "\u2585\0\u2581import") for text in _TEXTS]
    assert SentencePieceTokenizer(1200).train(marked).vocab_size == 1200


def test_too_much_or_too_little_asked() -> None:
    with pytest.raises(LifelongError, match=r"supports a vocabulary of \d+ tokens at most, 9000") as caught:
        SentencePieceTokenizer(9000).train(_TEXTS[:1])
    supported = int(str(caught.value.fix).split("--vocab-size ")[1].split()[0])
    assert SentencePieceTokenizer(supported).train(_TEXTS[:1]).vocab_size == supported
    with pytest.raises(LifelongError, match="cannot hold the characters") as caught:
        SentencePieceTokenizer(264).train(_TEXTS)
    needed = int(str(caught.value.fix).split("--vocab-size ")[1].split()[0])
    assert SentencePieceTokenizer(needed).train(_TEXTS).vocab_size == needed
    with pytest.raises(LifelongError, match="too little text"):
        SentencePieceTokenizer(1000).train([])
    with pytest.raises(LifelongError, match="too small"):
        SentencePieceTokenizer(200)


def _foreign(path: Path, **options: Any) -> Path:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in _TEXTS for line in text.splitlines()),
        model_writer=out,
        vocab_size=900,
        minloglevel=2,
        **options,
    )
    path.write_bytes(out.getvalue())
    return path


@pytest.mark.parametrize("kind", _TYPES)
def test_a_model_made_elsewhere_keeps_its_ids(tmp_path: Path, kind: str) -> None:
    model = _foreign(tmp_path / "spm.model", model_type=kind, byte_fallback=True)
    library = sentencepiece.SentencePieceProcessor(model_file=str(model))
    imported = load_tokenizer(model)
    lines = [*(line for text in _HELD for line in text.splitlines()), "ﬁne  Ａ½ \u2581x ", " ", "", "中\n"]
    assert imported.encode_batch(lines) == library.encode(lines)
    assert [imported.decode(ids) for ids in library.encode(lines)] == library.decode(library.encode(lines))
    assert imported.vocab_size == 904
    assert imported.special_ids == {2, 900, 901, 902, 903}
    imported.save(tmp_path / "out")
    again = load_tokenizer(tmp_path / "out")
    assert (again.fingerprint, again.encode_batch(lines)) == (imported.fingerprint, imported.encode_batch(lines))
    ids, _ = again.encode_chat(_CHAT)
    assert again.decode(ids, skip_special_tokens=False).count("<|end|>") == 3
    # transformers runs the tokenizer.json: it normalises alike; of pieces with equal scores it may choose others.
    auto = AutoTokenizer.from_pretrained(tmp_path / "out")
    differing = [line for line in lines if auto(line)["input_ids"] != library.encode(line)]
    assert len(differing) <= 0.005 * len(lines), differing
    assert auto.decode(auto("hello  there")["input_ids"]) == "hello there"


@pytest.mark.parametrize("names", [["<|sys|>", "<|usr|>", "<|asst|>", "<|eot|>"], ["[A]", "[B]", "[C]", "[D]"]])
def test_roles_of_another_spelling_are_found_and_cannot_be_typed(tmp_path: Path, names: list[str]) -> None:
    model = _foreign(tmp_path / "spm.model", byte_fallback=True, user_defined_symbols=names)
    assert sentencepiece.SentencePieceProcessor(model_file=str(model)).encode(f"x{names[1]}").count(4) == 1
    imported, notes = import_tokenizer(model)
    assert imported.special == SpecialTokens("</s>", *names)
    assert imported.special_ids == {2, 3, 4, 5, 6}
    assert f"{names[1]} was an ordinary piece; now no text can become it" in notes
    ids = imported.encode(f"x{names[1]} y")
    assert not set(ids) & {3, 4, 5, 6}
    assert imported.decode(ids) == f"x{names[1]} y"
    imported.save(tmp_path / "out")
    auto = AutoTokenizer.from_pretrained(tmp_path / "out")
    wanted, _ = imported.encode_chat([{"role": "user", "content": "self"}], add_generation_prompt=True)
    chat = [{"role": "user", "content": "self"}]
    found = auto.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert found["input_ids"] == wanted


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="file not found"):
        load_tokenizer(tmp_path / "x.model")
    for data in (
        b"",
        b"not a model at all",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x02\x0a\x05",
    ):
        (tmp_path / "bad.model").write_bytes(data)
        with pytest.raises(LifelongError, match="not a SentencePiece model"):
            load_tokenizer(tmp_path / "bad.model")
    with pytest.raises(LifelongError, match="words or characters"):
        load_tokenizer(_foreign(tmp_path / "char.model", model_type="char", hard_vocab_limit=False))
    with pytest.raises(LifelongError, match="surrogate"):
        load_tokenizer(_foreign(tmp_path / "spm.model")).encode("\ud800")
    _TRAINED["bpe"].save(tmp_path / "tok")
    (tmp_path / "tok" / "spm.model").unlink()
    with pytest.raises(LifelongError, match=r"spm\.model is missing"):
        load_tokenizer(tmp_path / "tok")


@given(data=st.binary(max_size=200), at=st.integers(0, 20_000), cut=st.integers(0, 20_000))
@settings(max_examples=100)
def test_a_damaged_model_is_an_error(data: bytes, at: int, cut: int) -> None:
    whole = _TRAINED["bpe"]._spm
    damaged = whole[:at] + data + whole[at + len(data) : len(whole) - cut]
    try:
        read_spm(damaged, "spm.model")
    except LifelongError as error:
        assert "not a SentencePiece model" in str(error)


def test_the_configuration_says_what_transformers_needs(place: Path) -> None:
    config = json.loads((place / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (config["bos_token"], config["eos_token"], config["unk_token"]) == ("<s>", "</s>", "<unk>")
