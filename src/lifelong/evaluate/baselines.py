"""What a text costs without a neural network: the numbers a model has to beat."""

from __future__ import annotations

import lzma
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError
from lifelong.evaluate.bits import scored_text

if TYPE_CHECKING:
    from lifelong.text import Document
    from lifelong.tokens.base import Tokenizer

LABELS = {
    "unigram": "token frequencies alone",
    "zlib": "zlib -9",
    "xz": "xz -9e",
    "xz_primed": "xz -9e, primed with training text",
}
_PRIMING_BYTES = 8_000_000
_XZ_PRESET = 9 | lzma.PRESET_EXTREME


def baselines(train: Iterable[Document], test: Sequence[Document], tokenizer: Tokenizer) -> dict[str, float]:
    """Return bits per byte of the test documents by four simple methods; :data:`LABELS` says what each key means.

    - ``unigram``: every token coded by its frequency in the training text, with one added to every count
      (Laplace smoothing) so that unseen tokens stay possible;
    - ``zlib``, ``xz``: the compressed size of the test text (documents joined by a newline);
    - ``xz_primed``: xz of training and test text together less xz of the training text, that is a compressor with the
      same knowledge. At most the last 8 MB of the training text are used.

    Of chats only the assistant's turns count, in both texts.

    Raises:
        LifelongError: there is no test text or no training text.
    """
    train_texts = [text for document in train if (text := scored_text(document))]
    test_texts = [text for document in test if (text := scored_text(document))]
    if not train_texts or not test_texts:
        missing = "test" if train_texts else "training"
        raise LifelongError(f"there is no {missing} text to compute baselines from")
    data = "\n".join(test_texts).encode("utf-8")
    known = "\n".join(train_texts).encode("utf-8")[-_PRIMING_BYTES:] + b"\n"
    primed = _xz(known + data) - _xz(known)
    return {
        "unigram": _unigram(train_texts, test_texts, tokenizer),
        "zlib": 8 * len(zlib.compress(data, 9)) / len(data),
        "xz": 8 * _xz(data) / len(data),
        "xz_primed": 8 * primed / len(data),
    }


def compressed_bits(documents: Iterable[Document]) -> float | None:
    """Return bits per byte of documents by ``zlib -9``; None where nothing in them counts."""
    data = "\n".join(scored_text(document) for document in documents).encode("utf-8")
    return 8 * len(zlib.compress(data, 9)) / len(data) if data else None


def _xz(data: bytes) -> int:
    # The raw stream: the container's header and checksum say nothing about the text.
    # A window as large as the data gives the preset's result; its own 64 MiB window would take 700 MB of memory.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _XZ_PRESET, "dict_size": max(4096, len(data))}]
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))


def _unigram(train: list[str], test: list[str], tokenizer: Tokenizer) -> float:
    counts: Counter[int] = Counter()
    for ids in tokenizer.encode_batch(train):
        counts.update(ids)
    log_total = math.log2(counts.total() + tokenizer.vocab_size)
    bits = math.fsum(log_total - math.log2(counts[token] + 1) for ids in tokenizer.encode_batch(test) for token in ids)
    return bits / sum(len(text.encode("utf-8")) for text in test)
