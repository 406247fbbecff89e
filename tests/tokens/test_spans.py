"""Span corruption: what is taken out and what is left, against its definition and T5's own numbers."""

from __future__ import annotations

import pydoc_data.topics as topics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.tokens.spans import SENTINELS, Spans, find_sentinels, sizes
from lifelong.tokens.tokenizer import BPETokenizer

FIRST = 10_000
SPANS = Spans(np.arange(FIRST + 99, FIRST - 1, -1), end_id=0, seed=3)


def restored(inputs: list[int], targets: list[int]) -> list[int]:
    """Put the spans back where their sentinels stand."""
    spans: dict[int, list[int]] = {}
    for token in targets[:-1]:
        if token >= FIRST:
            spans[token] = here = []
        else:
            here.append(token)
    return [word for token in inputs[:-1] for word in (spans.pop(token) if token >= FIRST else [token])]


@given(st.integers(2, 600), st.integers(0, 10**9))
def test_the_spans_put_back_give_the_text(length: int, number: int) -> None:
    ids = np.arange(1, length + 1)[None]
    inputs, targets = SPANS.corrupt(ids, np.array([number]))
    assert restored(inputs[0].tolist(), targets[0].tolist()) == ids[0].tolist()
    taken, spans = sizes(length)
    assert inputs.shape == (1, length - taken + spans + 1) and targets.shape == (1, taken + spans + 1)
    # Sentinels count up from the first in both, and both end with the end.
    for row in (inputs[0], targets[0]):
        assert row[row >= FIRST].tolist() == [FIRST + 99 - index for index in range(spans)] and row[-1] == 0


def test_the_sizes_are_those_of_t5() -> None:
    # Of 568 tokens T5's reference keeps 512 with sentinels and end, and has 114 to write
    # (`compute_input_and_target_lengths(512, 0.15, 3.0)` of its published code).
    taken, spans = sizes(568)
    assert 568 - taken + spans + 1 == 512 and taken + spans + 1 == 114


def test_rows_differ_and_depend_on_their_number_alone() -> None:
    ids = np.arange(1, 101)[None].repeat(8, axis=0)
    inputs, _ = SPANS.corrupt(ids, np.arange(8))
    assert len({tuple(row) for row in inputs.tolist()}) == 8
    again, _ = SPANS.corrupt(ids[:1], np.array([5]))
    assert again[0].tolist() == inputs[5].tolist()
    other, _ = Spans(SPANS.sentinels, 0, seed=4).corrupt(ids[:1], np.array([5]))
    assert other[0].tolist() != inputs[5].tolist()


def test_every_place_is_taken_out_about_equally_often() -> None:
    ids = np.arange(1, 101)[None].repeat(4000, axis=0)
    inputs, _ = SPANS.corrupt(ids, np.arange(4000))
    kept = np.bincount(inputs[inputs < FIRST], minlength=101)[1:101] / 4000
    # A row begins with what is kept and ends with what is not, as in the reference; in between it is even.
    assert kept[0] == 1.0 and kept[-1] == 0.0
    assert 0.75 < kept[10:90].min() and kept[10:90].max() < 0.95


def test_too_long_rows_are_refused_with_a_length_that_works() -> None:
    SPANS.corrupt(np.ones((1, SPANS.longest), dtype=np.int64), np.array([0]))
    with pytest.raises(LifelongError, match=f"--sequence-length {SPANS.longest} or less"):
        SPANS.corrupt(np.ones((1, 4000), dtype=np.int64), np.array([0]))


def test_sentinels_stand_behind_the_vocabulary_the_first_last_or_are_its_own() -> None:
    from tokenizers import AddedToken, Tokenizer

    tokenizer = BPETokenizer(300).train(topics.topics.values())
    assert find_sentinels(tokenizer).tolist() == list(range(399, 299, -1))
    library = Tokenizer.from_str(tokenizer.data.decode())
    library.add_special_tokens([AddedToken(token, special=True) for token in SENTINELS])
    own = BPETokenizer(300)
    own.adopt(library.to_str().encode(), "test")
    assert find_sentinels(own).tolist() == list(range(300, 400))
