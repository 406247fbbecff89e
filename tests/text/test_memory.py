"""What a replay memory keeps."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lifelong.text import Document
from lifelong.text.cutting import PIECE
from lifelong.text.document import join_messages
from lifelong.text.memory import ReplayMemory


def _texts(count: int, size: int, mark: str, weight: float = 1.0) -> list[Document]:
    return [Document((f"{mark}{n} " * size)[:size], "s", f"{mark}{n}", weight=weight) for n in range(count)]


def _talk(asked: str, size: int = 400) -> Document:
    answer = (f"{asked} is answered. " * size)[:size]
    messages = ({"role": "user", "content": asked}, {"role": "assistant", "content": answer})
    return Document(join_messages(messages), "s", "t", "chat", messages=messages)


def _talks(count: int) -> list[Document]:
    return [_talk(f"Question {n}?") for n in range(count)]


def test_short_examples_take_less_room_than_long_ones() -> None:
    memory = ReplayMemory(capacity=20)
    memory.add(_texts(40, PIECE, "a"), "books")
    assert memory.counts() == {"books": 20} and memory.size == 20
    talks = _talks(80)
    assert sum(talk.bytes for talk in talks) < 10 * PIECE
    memory.add(talks, "talks")
    assert memory.counts()["talks"] == 80  # they fit into half of the room, and none is let go
    assert 10 <= memory.counts()["books"] < 20 and memory.size <= 21  # one may pass the room


def test_domains_have_equal_room_and_what_one_leaves_is_the_others() -> None:
    memory = ReplayMemory(capacity=30)
    for domain, count in (("a", 30), ("b", 30), ("c", 2)):
        memory.add(_texts(count, PIECE, domain), domain)
    assert memory.counts() == {"a": 14, "b": 14, "c": 2}


def test_the_smallest_examples_count_for_their_row() -> None:
    memory = ReplayMemory(capacity=2)
    memory.add(_texts(500, 4, "n"), "numbers")
    assert memory.counts() == {"numbers": 32}


def test_a_domain_whose_first_example_is_too_long_keeps_it() -> None:
    memory = ReplayMemory(capacity=2)
    memory.add([_talk("x", 3 * PIECE)], "long")
    assert memory.counts() == {"long": 1}
    assert not ReplayMemory(capacity=0).counts()
    empty = ReplayMemory(capacity=0)
    empty.add(_talks(1), "none")
    assert not empty.counts()


def test_weighty_examples_are_kept_more_often() -> None:
    memory = ReplayMemory(capacity=20)
    memory.add([*_texts(60, PIECE, "light"), *_texts(60, PIECE, "heavy", weight=4.0)], "a")
    heavy = sum(example.weight == 4.0 for example in memory.documents())
    assert len(memory.documents()) == 20 and heavy >= 12  # four times as likely: 16 of 20 expected


_SIZES = st.lists(st.integers(1, 3 * PIECE), min_size=1, max_size=20, unique=True)


@settings(deadline=None, max_examples=100)
@given(domains=st.lists(_SIZES, min_size=1, max_size=4), seed=st.integers(0, 9), parts=st.integers(1, 5))
def test_what_is_kept_depends_on_neither_order_nor_portions(domains: list[list[int]], seed: int, parts: int) -> None:
    texts = [(str(number), _talk(f"{size}", size)) for number, sizes in enumerate(domains) for size in sizes]
    once, often = ReplayMemory(7, seed), ReplayMemory(7, seed)
    for domain, text in texts:
        once.examples[domain].append(text)
    once.shrink()
    random.Random(seed).shuffle(texts)
    for part in range(parts):
        for domain, text in texts[part::parts]:
            often.add([text], domain)
    assert _held(once) == _held(often)
    often.shrink()
    assert _held(once) == _held(often)
    assert once.size <= 7 + len(domains) * 3  # of each domain, one example may pass the room


def _held(memory: ReplayMemory) -> dict[str, set[str]]:
    return {name: {example.text for example in examples} for name, examples in memory.examples.items()}


def test_a_memory_is_the_same_after_a_file(tmp_path: Path) -> None:
    memory = ReplayMemory(capacity=30)
    memory.add([dataclasses.replace(text, domain="a") for text in (*_texts(3, 900, "a"), *_talks(3))], "a")
    memory.save(tmp_path / "m.jsonl")
    again = ReplayMemory.load(tmp_path / "m.jsonl", 30)
    assert again.documents("a") == memory.documents("a")
    again.add(memory.documents(), "a")  # known already
    assert again.counts() == memory.counts()
