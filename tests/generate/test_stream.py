from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lifelong.generate.stream import TextStream
from lifelong.tokens.tokenizer import BPETokenizer

MANY_BYTES = "naïve – 日本語 🦊👩‍👩‍👧 e\u0301 ½ end"
FEW = settings(max_examples=60)


def streamed(tokenizer: BPETokenizer, ids: list[int]) -> tuple[list[str], str]:
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for token in ids:
        stream.add(token)
    return pieces, stream.finish()


def test_no_character_is_broken(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode(MANY_BYTES)
    assert any("\ufffd" in tokenizer.decode([token]) for token in ids), "the text must have split characters"
    pieces, whole = streamed(tokenizer, ids)
    assert whole == "".join(pieces) == MANY_BYTES
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 10


def test_a_character_cut_off_by_the_end_shows(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode("a🦊")
    pieces, whole = streamed(tokenizer, ids[:-1])
    assert pieces[0] == "a"
    assert whole == tokenizer.decode(ids[:-1]) == "a\ufffd"


@FEW
@given(text=st.text(max_size=30))
def test_any_text_comes_through(tokenizer: BPETokenizer, text: str) -> None:
    pieces, whole = streamed(tokenizer, tokenizer.encode(text))
    assert whole == "".join(pieces) == text


@FEW
@given(ids=st.lists(st.integers(0, 399), max_size=40))
def test_any_tokens_spell_what_decoding_them_at_once_spells(tokenizer: BPETokenizer, ids: list[int]) -> None:
    pieces, whole = streamed(tokenizer, ids)
    assert whole == "".join(pieces) == tokenizer.decode(ids)
