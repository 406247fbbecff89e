"""How tokenizers fare on the same text: length, what falls apart into bytes, round trips, speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.pieces import is_fragment

_ROUNDS = 3


@dataclass(frozen=True)
class Comparison:
    """One tokenizer on some text.

    Attributes:
        tokenizer: where it lies.
        vocab_size: its entries.
        tokens: tokens of the text.
        bytes_per_token: UTF-8 bytes of the text for each.
        fragments: share of tokens that spell no whole character: single bytes, parts of a character, unknown.
        unknown: share of tokens that are the unknown token, which loses text.
        round_trips: share of texts that come back from their ids as they were.
        megabytes_per_second: speed of `encode_flat` on one text after another, each round with nothing remembered.
    """

    tokenizer: str
    vocab_size: int
    tokens: int
    bytes_per_token: float
    fragments: float
    unknown: float
    round_trips: float
    megabytes_per_second: float


def compare(paths: Sequence[str | Path], texts: Sequence[str]) -> list[Comparison]:
    """Encode the same texts with several tokenizers; speed is the best of three rounds, taken in turns.

    Raises:
        LifelongError: a tokenizer cannot be read.
    """
    size = sum(len(text.encode("utf-8")) for text in texts)
    best = {path: float("inf") for path in paths}
    encoded = {}
    for _ in range(_ROUNDS):
        for path in paths:
            tokenizer = load_tokenizer(path)
            tokenizer.encode_flat(["warm up"])
            started = time.perf_counter()
            ids, lengths = tokenizer.encode_flat(texts)
            best[path] = min(best[path], time.perf_counter() - started)
            encoded[path] = tokenizer, ids, lengths
    rows = []
    for path, (tokenizer, ids, lengths) in encoded.items():
        found, counts = np.unique(ids, return_counts=True)
        kinds = [_kind(tokenizer, int(token)) for token in found]
        shares = {
            kind: sum(int(count) for of, count in zip(kinds, counts, strict=True) if of == kind) / max(1, len(ids))
            for kind in ("fragment", "unknown")
        }
        pieces = np.split(ids, np.cumsum(lengths)[:-1])
        same = sum(tokenizer.decode(part.tolist()) == text for part, text in zip(pieces, texts, strict=True))
        rows.append(
            Comparison(
                tokenizer=str(path),
                vocab_size=tokenizer.vocab_size,
                tokens=len(ids),
                bytes_per_token=size / max(1, len(ids)),
                fragments=shares["fragment"] + shares["unknown"],
                unknown=shares["unknown"],
                round_trips=same / max(1, len(texts)),
                megabytes_per_second=size / best[path] / 1e6,
            )
        )
    return rows


def _kind(tokenizer: Tokenizer, token: int) -> str:
    if tokenizer.library.id_to_token(token) in ("<unk>", "[UNK]"):
        return "unknown"
    return "fragment" if is_fragment(tokenizer, token) else "word"
