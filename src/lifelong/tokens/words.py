"""Bulk encoding on one core: every distinct word is encoded once, and ids are put together by numpy.

A tokenizer cuts text into words before it merges anything, and text repeats its words: in 27 MB of manuals, wiki and
code 6.2 million words are 128,000 different ones. Cutting and looking up is then all the work there is (about 0.3 and
0.1 µs a word); merging, the library's main cost, is done for new words only.

The words are cut by Python's ``re`` with the tokenizer's own pattern, in which the classes that ``re`` does not know
(letters, numbers, white space) are written out as the library's own regex engine has them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

Encode = Callable[[list[str]], list[list[int]]]
Flat = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]

_REST = r"\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = _CONTRACTIONS + _REST % r"\p{N}"
# Measured on maths and mathematical code (1 MB, one epoch, 1.1M parameters, one seed), bits per byte: single digits
# 1.908, pairs 1.866, threes 1.875.
DIGIT_PAIRS = _CONTRACTIONS + _REST % r"\p{N}{1,2}"
LLAMA3 = _CONTRACTIONS + _REST % r"\p{N}{1,3}"
SPACES = " *[^ ]+| +"
LINES = " *[^ \\n]+\\n*| *\\n+| +"
# For these it is known that words do not depend on their neighbours, and that `re` cuts like the library.
BYTE_LEVEL = (GPT2, QWEN2, DIGIT_PAIRS, LLAMA3)
_KNOWN = (*BYTE_LEVEL, SPACES, LINES)

_PIECE = 1 << 20  # characters cut into words at once: what is in memory beside the text
_MOST_WORDS, _MOST_IDS = 1 << 19, 1 << 22  # then the cache starts anew: about 60 MB
# Where no token of any known pattern crosses, and the sides do not see each other.
_SEAM = re.compile(r"(?<=\S)(?= )")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


def word_pattern(tokenizer_json: bytes) -> str | None:
    """Return the pattern by which a tokenizer cuts words, or None where words must not be encoded one by one."""
    whole = json.loads(tokenizer_json)
    if whole.get("normalizer") is not None or any(not token["special"] for token in whole.get("added_tokens") or ()):
        return None
    if whole["model"].get("dropout") is not None:
        return None
    first, *rest = _steps(whole.get("pre_tokenizer"))
    found = None
    if first["type"] == "ByteLevel" and not rest:
        found = GPT2 if not first["add_prefix_space"] and first.get("use_regex", True) else None
    elif first["type"] == "Split" and first["behavior"] == "Isolated" and not first["invert"]:
        found = first["pattern"].get("Regex")
        plain = [step for step in rest if step["type"] == "ByteLevel"]
        if any(step["add_prefix_space"] or step.get("use_regex", True) for step in plain):
            return None
        if found not in (SPACES, LINES) and len(plain) != len(rest):
            return None
    return found if found in _KNOWN else None


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return [{"type": "none"}]
    if pre_tokenizer["type"] == "Sequence":
        return list(pre_tokenizer["pretokenizers"]) or [{"type": "none"}]
    return [pre_tokenizer]


class WordCache:
    """Encodes texts word by word, remembering each word.

    Args:
        pattern: one that `word_pattern` returned.
        encode: returns the ids of texts, as the tokenizer's ``encode_batch``.
        encode_words: the same for single words, where there is a shorter way (default: ``encode``).
    """

    def __init__(self, pattern: str, encode: Encode, encode_words: Encode | None = None) -> None:
        self._find = re.compile(_translate(pattern)).findall
        self._classes = "\\p" in pattern
        self._encode, self._encode_words = encode, encode_words or encode
        self._forget()

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._starts: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # of each word's ids in _ids
        self._lengths: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._ids: npt.NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts one after another, (tokens,), and the tokens of each text, (texts,)."""
        parts: list[npt.NDArray[np.uint32]] = [np.zeros(0, dtype=np.uint32)]
        lengths: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        for safe, group in groupby(texts, key=self._is_safe):
            for batch in _batches(group):
                if safe:
                    ids, counts = self._assemble([piece for text in batch for piece in text])
                else:
                    lists = self._encode(["".join(text) for text in batch])
                    counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
                    ids = np.fromiter((token for found in lists for token in found), np.uint32, int(counts.sum()))
                parts.append(ids)
                lengths.append(_add_up(counts, [len(text) for text in batch]) if safe else counts)
        return np.concatenate(parts), np.concatenate(lengths)

    def _is_safe(self, text: str) -> bool:
        # Beyond the basic plane the classes are not written out: symbols, such as emoji, are in none of them.
        if not self._classes or text.isascii():
            return True
        return all(unicodedata.category(character)[0] == "S" for character in set(_ASTRAL.findall(text)))

    def _assemble(self, pieces: list[str]) -> Flat:
        found = [self._find(piece) for piece in pieces]
        ends = np.cumsum([0, *map(len, found)])
        try:
            lookup = self._numbers.__getitem__
            numbers = np.fromiter((number for words in found for number in map(lookup, words)), np.int64, int(ends[-1]))
            self._learn()
        except BaseException:
            self._forget()  # words without ids must not stay
            raise
        lengths = self._lengths[numbers]
        before = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self._starts[numbers] - before[:-1], lengths) + np.arange(before[-1])
        ids = self._ids[at]
        if len(self._numbers) > _MOST_WORDS or len(self._ids) > _MOST_IDS:
            self._forget()
        return ids, np.diff(before[ends])

    def _learn(self) -> None:
        new, self._numbers.new = self._numbers.new, []
        if not new:
            return
        lists = self._encode_words(new)
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        ids = np.fromiter((token for found in lists for token in found), dtype=np.uint32, count=int(lengths.sum()))
        self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(lengths) - lengths])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._ids = np.concatenate([self._ids, ids])


class _Numbers(dict[str, int]):
    """Word → its number; a word not seen before gets the next, and is noted in ``new``."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        self.new.append(word)
        return number


def _batches(texts: Iterator[str]) -> Iterator[list[list[str]]]:
    """Yield texts, each in pieces, in batches of about `_PIECE` characters; a long text stays whole in its batch."""
    batch: list[list[str]] = []
    size = 0
    for text in texts:
        batch.append(_pieces(text))
        size += len(text)
        if size >= _PIECE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pieces(text: str) -> list[str]:
    pieces = []
    start = 0
    while len(text) - start > 2 * _PIECE and (seam := _SEAM.search(text, start + _PIECE)):
        pieces.append(text[start : seam.start()])
        start = seam.start()
    return [*pieces, text[start:]]


def _add_up(counts: npt.NDArray[np.int64], pieces: list[int]) -> npt.NDArray[np.int64]:
    before = np.concatenate([[0], np.cumsum(counts)])
    sums: npt.NDArray[np.int64] = np.diff(before[np.cumsum([0, *pieces])])
    return sums


def _translate(pattern: str) -> str:
    """Write out the classes that ``re`` has not, or has otherwise; in the known patterns all stand where ranges may."""
    if "\\p" not in pattern:
        return pattern
    ranges = {name: _ranges(name) for name in (r"\p{L}", r"\p{N}", r"\s")}
    pattern = pattern.replace(r"\S", f"[^{ranges[chr(92) + 's']}]")
    parts = re.split(r"(\[[^\]]*\])", pattern)
    for name, written in ranges.items():
        parts = [part.replace(name, written if part.startswith("[") else f"[{written}]") for part in parts]
    return "".join(parts)


@cache
def _ranges(name: str) -> str:
    """Return the members of a class in the basic plane, as the library's regex engine sees them: ``a-zA-Z…``."""
    from tokenizers import Regex, normalizers

    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000)]))
    members = normalizers.Replace(Regex(f"[^{name}]"), "").normalize_str(every)
    runs: list[list[int]] = []
    for point in map(ord, members):
        if runs and runs[-1][1] == point - 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in runs)


@cache
def byte_names() -> dict[int, str]:
    """Return the character that stands for each byte in a byte-level vocabulary (GPT-2's `bytes_to_unicode`).

    Printable Latin-1 characters stand for themselves, the other bytes are U+0100 and up.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + at) for at, byte in enumerate(others)}
