"""Bulk encoding: the ids and masks of the tokenizer itself, in the order given, on one core or several."""

from __future__ import annotations

import argparse
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelong.text.document import ROLES
from lifelong.tokens import BPETokenizer, encoding
from lifelong.tokens.encoding import Content, encode, encode_chunks, id_type

_SOURCE = inspect.getsource(argparse)
_TOKENIZER = BPETokenizer(vocab_size=500).train([_SOURCE])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_TURNS = st.lists(st.tuples(st.sampled_from(ROLES), _TEXT), min_size=1, max_size=4)
_CHAT = _TURNS.map(lambda turns: tuple({"role": role, "content": content} for role, content in turns))


@settings(max_examples=60)
@given(st.lists(_TEXT | _CHAT, min_size=1, max_size=6))
def test_ids_masks_and_bytes_are_those_of_one_document_at_a_time(contents: list[Content]) -> None:
    encoded = encode(contents, _TOKENIZER)
    ends = np.cumsum(encoded.lengths)
    assert len(encoded) == len(contents)
    for index, (item, end) in enumerate(zip(contents, ends.tolist(), strict=True)):
        here = slice(end - int(encoded.lengths[index]), end)
        if isinstance(item, str):
            ids, trained = _TOKENIZER.encode(item), None
            assert encoded.trained_bytes[index] == encoded.bytes[index] == len(item.encode())
        else:
            ids, trained = _TOKENIZER.encode_chat(item)
            assert encoded.bytes[index] == len("\n".join(turn["content"] for turn in item).encode())
            answers = [turn["content"] for turn in item if turn["role"] == "assistant"]
            assert encoded.trained_bytes[index] == sum(len(answer.encode()) for answer in answers)
        assert encoded.ids[here].tolist() == [*ids, _TOKENIZER.eos_id]
        mask = [True] * (len(ids) + 1) if trained is None else [*trained, False]
        assert encoded.mask is None or encoded.mask[here].astype(bool).tolist() == mask
        assert encoded.mask is not None or trained is None


def test_worker_processes_give_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "PARALLEL_FROM", 1)
    chunks = [(f"{number}", [_SOURCE[number * 900 : number * 900 + 900]] * (number % 3 + 1)) for number in range(12)]
    serial = list(encode_chunks(chunks, _TOKENIZER))
    parallel = list(encode_chunks(chunks, _TOKENIZER, workers=2))
    assert [label for label, _ in parallel] == [label for label, _ in serial]
    for (_, one), (_, other) in zip(serial, parallel, strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.lengths, other.lengths)


def test_ids_take_the_narrowest_type() -> None:
    assert id_type(65_536) == "<u2"
    assert id_type(65_537) == "<u4"
