from __future__ import annotations

import math
import pydoc_data.topics as topics
import zlib
from collections import Counter
from collections.abc import Callable

import pytest

from lifelong.errors import LifelongError
from lifelong.evaluate.baselines import LABELS, baselines
from lifelong.text import Document
from lifelong.tokens.tokenizer import BPETokenizer

TEXTS = [text for _, text in sorted(topics.topics.items())]


def documents(texts: list[str]) -> list[Document]:
    return [Document(text, "topics", str(i)) for i, text in enumerate(texts)]


def test_unigram_equals_a_plain_loop(tokenizer: BPETokenizer) -> None:
    train, test = TEXTS[:5], TEXTS[5:8]
    counts = Counter(token for text in train for token in tokenizer.encode(text))
    bits = 0.0
    for text in test:
        for token in tokenizer.encode(text):
            bits -= math.log2((counts[token] + 1) / (sum(counts.values()) + tokenizer.vocab_size))
    found = baselines(documents(train), documents(test), tokenizer)
    assert found["unigram"] == pytest.approx(bits / len("".join(test).encode()))


def test_compressors(tokenizer: BPETokenizer) -> None:
    test = TEXTS[5:8]
    found = baselines(documents(TEXTS[:5]), documents(test), tokenizer)
    data = "\n".join(test).encode()
    assert found["zlib"] == pytest.approx(8 * len(zlib.compress(data, 9)) / len(data))
    assert found["xz_primed"] < found["xz"] < 8
    assert set(found) == set(LABELS)


def test_priming_with_the_test_text_itself_leaves_almost_nothing(tokenizer: BPETokenizer) -> None:
    both = documents(TEXTS[5:8])
    assert baselines(both, both, tokenizer)["xz_primed"] < 0.1


def test_of_chats_only_the_answers_count(tokenizer: BPETokenizer, make_chat: Callable[..., Document]) -> None:
    asked = [make_chat(TEXTS[i], f"answer number {i}") for i in range(5)]
    plain = documents([f"answer number {i}" for i in range(5)])
    assert baselines(asked, asked, tokenizer) == baselines(plain, plain, tokenizer)


def test_no_text_is_an_error(tokenizer: BPETokenizer) -> None:
    some = documents(TEXTS[:1])
    with pytest.raises(LifelongError, match="no test text"):
        baselines(some, [], tokenizer)
    with pytest.raises(LifelongError, match="no training text"):
        baselines(documents([""]), some, tokenizer)
