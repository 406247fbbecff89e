"""Bulk tokenising on one core: MB/s of the same vocabulary in several engines, in turns, best of several rounds.

    python benchmarks/tokenising.py --data FILES_OR_FOLDERS... [--vocab 8000] [--mb 8] [--rounds 3] [--json OUT.json]

Contestants: `tokenizers` (`encode_batch`, `encode_batch_fast`), `datasets.map(batched=True)` around it, `tiktoken` with
the same merges, and this library's `encode_flat`: *cold* (no word known, as for a first shard) and *warm*. Every
engine's ids are compared; a contestant that differs says in how many texts. "pattern" is the ceiling of any design that
cuts words with ``re``: cutting alone. One thread each; the time is the processor's: others' work does not count.
"""

from __future__ import annotations

import os

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import json
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lifelong.text import read_sources
from lifelong.tokens import BPETokenizer, Tokenizer, words
from lifelong.tokens.sentencepiece import SentencePieceTokenizer


def main() -> None:
    """Run the contest and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--vocab", type=int, default=8000)
    parser.add_argument("--mb", type=float, default=8, help="megabytes of text that are encoded, spread over the data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    every = [document.text for document in read_sources(options.data)]
    total = sum(len(text.encode("utf-8")) for text in every)
    texts = every[:: max(1, round(total / (options.mb * 1e6)))]
    size = sum(len(text.encode("utf-8")) for text in texts)
    train = every[1 :: max(2, round(total / 5e6))]
    results = {
        "platform": platform.platform(),
        "bytes": size,
        "texts": len(texts),
        "vocab": options.vocab,
        "tables": {},
    }
    bpe = BPETokenizer(options.vocab).train(train)
    results["tables"]["byte-level BPE"] = _contest(_bpe_contestants(bpe, texts), texts, size, options.rounds)
    for kind in ("unigram", "bpe"):
        tokenizer = SentencePieceTokenizer(options.vocab, kind).train(train)
        contestants = _spm_contestants(tokenizer, texts)
        results["tables"][f"SentencePiece {kind}"] = _contest(contestants, texts, size, options.rounds)
    for title, rows in results["tables"].items():
        print(f"\n{title}, {options.vocab} entries, {size / 1e6:.1f} MB in {len(texts)} texts")
        base = rows["encode_batch"]["mb_per_second"]
        for name, row in rows.items():
            speed, differing = row["mb_per_second"], row["texts_differing"]
            same = "" if differing is None else "same ids" if not differing else f"{differing} texts differ"
            print(f"  {name:<22} {speed:7.2f} MB/s  {speed / base:5.2f}x  {same}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


Encoded = list[list[int]] | tuple[Any, Any] | None


def _contest(
    contestants: dict[str, Callable[[], Encoded]], texts: list[str], size: int, rounds: int
) -> dict[str, dict[str, Any]]:
    best = dict.fromkeys(contestants, float("inf"))
    found: dict[str, Encoded] = {}
    for _ in range(rounds):
        for name, run in contestants.items():
            started = time.process_time()
            found[name] = run()
            best[name] = min(best[name], time.process_time() - started)
    wanted = [np.asarray(ids, dtype=np.uint32) for ids in _lists(found["encode_batch"])]
    return {
        name: {
            "mb_per_second": size / best[name] / 1e6,
            "texts_differing": None
            if found[name] is None
            else sum(
                not np.array_equal(np.asarray(ids, dtype=np.uint32), right)
                for ids, right in zip(_lists(found[name]), wanted, strict=True)
            ),
        }
        for name in contestants
    }


def _lists(found: Encoded) -> list[Any]:
    if isinstance(found, tuple):
        ids, lengths = found
        return np.split(ids, np.cumsum(lengths)[:-1])
    assert found is not None
    return found


def _library(tokenizer: Tokenizer, texts: list[str]) -> dict[str, Callable[[], Encoded]]:
    library = tokenizer.library

    def fresh() -> Encoded:
        tokenizer.__dict__.pop("_words", None)
        return tokenizer.encode_flat(texts)

    return {
        "encode_batch": lambda: [found.ids for found in library.encode_batch(texts, add_special_tokens=False)],
        "encode_batch_fast": lambda: [
            found.ids for found in library.encode_batch_fast(texts, add_special_tokens=False)
        ],
        "encode_flat, cold": fresh,
        "encode_flat, warm": lambda: tokenizer.encode_flat(texts),
    }


def _bpe_contestants(tokenizer: BPETokenizer, texts: list[str]) -> dict[str, Callable[[], Encoded]]:
    find = re.compile(words._translate(words.QWEN2)).findall

    def pattern() -> None:
        for text in texts:
            find(text)

    contestants = _library(tokenizer, texts)
    contestants["pattern (ceiling)"] = pattern
    try:
        from datasets import Dataset, disable_caching, disable_progress_bars

        disable_caching()
        disable_progress_bars()
        rows = Dataset.from_dict({"text": texts})

        def mapped() -> Encoded:
            done = rows.map(
                lambda batch: {"ids": [found.ids for found in tokenizer.library.encode_batch(batch["text"])]},
                batched=True,
                remove_columns=["text"],
                keep_in_memory=True,
            )
            return done.with_format("arrow")[:]["ids"].to_pylist() if _once("map") else None

        contestants["datasets.map"] = mapped
    except ImportError:
        print("datasets is not installed: left out")
    try:
        contestants["tiktoken"] = _tiktoken(tokenizer, texts)
    except ImportError:
        print("tiktoken is not installed: left out")
    return contestants


_done: set[str] = set()


def _once(name: str) -> bool:
    """Whether this is the first call: reading the rows back is only for comparing, not part of the work."""
    return name not in _done and not _done.add(name)


def _tiktoken(tokenizer: BPETokenizer, texts: list[str]) -> Callable[[], Encoded]:
    import tiktoken

    vocabulary = tokenizer.library.get_vocab(with_added_tokens=False)
    byte_of = {character: byte for byte, character in words.byte_names().items()}
    ranks = {
        bytes(byte_of[character] for character in text): token
        for text, token in vocabulary.items()
        if text not in tokenizer.special.spellings
    }
    # tiktoken's ranks are its ids; the library's merges are ranked as its ids are.
    encoding = tiktoken.Encoding(
        "same", pat_str=words.QWEN2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 0}, explicit_n_vocab=None
    )
    return lambda: [encoding.encode_ordinary(text) for text in texts]


def _spm_contestants(tokenizer: SentencePieceTokenizer, texts: list[str]) -> dict[str, Callable[[], Encoded]]:
    from sentencepiece import SentencePieceProcessor

    library = SentencePieceProcessor(model_proto=tokenizer._spm)
    return {**_library(tokenizer, texts), "sentencepiece": lambda: library.encode(texts, num_threads=1)}


if __name__ == "__main__":
    main()
