"""Bulk encoding: the ids of the library, whatever the text."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lifelong.errors import LifelongError
from lifelong.tokens import BPETokenizer, words
from lifelong.tokens.words import DIGIT_PAIRS, GPT2, LINES, LLAMA3, QWEN2, SPACES, WordCache, word_pattern

_LIBRARY = Path(sysconfig.get_path("stdlib"))
_TEXTS = [(_LIBRARY / name).read_text(encoding="utf-8") for name in ("textwrap.py", "shutil.py", "argparse.py")]
# What the patterns treat apart, and what differs between regex engines: case folding, white space, planes.
_CHARACTERS = st.one_of(
    st.sampled_from("aZé中Ж'stmdlrev019²½٣_-.,:<|> \t\n\r\v\f\0\x1c\x1f\x85\xa0\u2028\u3000\u0301\u200bſK"),
    st.sampled_from("😀𝑛𐐀𝟘\U0001f1e6\U000e0100\ufeff\uffff"),
    st.characters(exclude_categories=["Cs"]),
)
_STRINGS = st.lists(st.text(_CHARACTERS, max_size=30), max_size=4)


def _library(pattern: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return tokenizer


_TOKENIZERS = {pattern: _library(pattern) for pattern in (GPT2, QWEN2, DIGIT_PAIRS, LLAMA3)}


def _check(pattern: str, texts: list[str]) -> None:
    library = _TOKENIZERS[pattern]
    cache = WordCache(pattern, lambda some: [found.ids for found in library.encode_batch(some)])
    for _ in range(2):  # the second time from memory
        ids, lengths = cache.encode_flat(texts)
        wanted = [found.ids for found in library.encode_batch(texts)]
        assert ids.tolist() == [token for found in wanted for token in found]
        assert lengths.tolist() == [len(found) for found in wanted]
        assert (ids.dtype, lengths.dtype) == (np.uint32, np.int64)


@pytest.mark.parametrize("pattern", list(_TOKENIZERS))
@given(texts=_STRINGS)
@example(texts=["don't DON'T 'ſ 'Ll", "\r\n \r\n  x", "a.\r\n b", "\x1c\x1c a\x85b", " \u3000 x 12345 ²³½"])
@example(texts=["𝑛𝑛 a", "😀😀 b", "", "𝟘1"])
@settings(max_examples=80)
def test_ids_are_those_of_the_library(pattern: str, texts: list[str]) -> None:
    _check(pattern, texts)


@pytest.mark.parametrize("pattern", list(_TOKENIZERS))
def test_real_text_and_every_character(pattern: str) -> None:
    _check(pattern, _TEXTS)
    points = [chr(point) for point in range(0x10000) if not 0xD800 <= point < 0xE000]
    _check(pattern, ["".join(points), "".join(f"a{character}1{character} " for character in points[:0x3100])])


@pytest.mark.parametrize("pattern", [GPT2, QWEN2, DIGIT_PAIRS, LLAMA3, SPACES, LINES])
@given(texts=_STRINGS)
@settings(max_examples=50)
def test_long_texts_are_cut_where_it_changes_nothing(pattern: str, texts: list[str]) -> None:
    text = " ".join(texts)
    find = re.compile(words._translate(pattern)).findall
    seams = [match.start() for match in words._SEAM.finditer(text)]
    parts = [text[a:b] for a, b in zip([0, *seams], [*seams, len(text)], strict=True)]
    assert [word for part in parts for word in find(part)] == find(text)


def test_the_cache_starts_anew_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MOST_WORDS", 50)
    monkeypatch.setattr(words, "_PIECE", 200)
    tokenizer = BPETokenizer(600).train(_TEXTS)
    ids, lengths = tokenizer.encode_flat([*_TEXTS, ""])
    assert tokenizer._words is not None and len(tokenizer._words._numbers) <= 50 + 400
    assert np.split(ids, np.cumsum(lengths)[:-1])[1].tolist() == tokenizer.encode(_TEXTS[1])
    assert ids.tolist() == [token for text in _TEXTS for token in tokenizer.encode(text)]
    assert lengths[-1] == 0


def test_half_a_surrogate_pair_is_refused_and_not_remembered() -> None:
    tokenizer = BPETokenizer(600).train(_TEXTS)
    for _ in range(2):
        with pytest.raises(LifelongError, match="surrogate"):
            tokenizer.encode_flat(["fine new words", "\ud800"])
    assert tokenizer.encode_flat(["fine new words"])[0].tolist() == tokenizer.encode("fine new words")
    ids, lengths = tokenizer.encode_flat([])
    assert (ids.size, lengths.size) == (0, 0)


def test_other_tokenizers_are_left_to_the_library() -> None:
    plain = _library(QWEN2)
    assert word_pattern(plain.to_str().encode()) == QWEN2
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert word_pattern(plain.to_str().encode()) == GPT2
    for other in (
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Split(Regex(r"\w+"), behavior="isolated"),
        pre_tokenizers.Split(Regex(QWEN2), behavior="removed"),
        pre_tokenizers.Whitespace(),
    ):
        plain.pre_tokenizer = other
        assert word_pattern(plain.to_str().encode()) is None
    plain = _library(QWEN2)
    plain.add_tokens(["an ordinary token of two words"])
    assert word_pattern(plain.to_str().encode()) is None
