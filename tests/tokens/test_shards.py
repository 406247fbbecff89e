"""Token caches: what is written is what is read, across shards, and only with the tokenizer that wrote it."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.text import Document
from lifelong.tokens import BPETokenizer, build_cache, open_cache

_SOURCE = inspect.getsource(argparse)
_TEXTS = [_SOURCE[start : start + 700] for start in range(0, 14_000, 700)]
_TOKENIZER = BPETokenizer(vocab_size=500).train([_SOURCE])


def _text(text: str) -> Document:
    return Document(text, "a.py", "a.py", "text")


def _chat(question: str, answer: str) -> Document:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Document(f"{question}\n{answer}", "a.jsonl", "a.jsonl", "chat", messages=messages)


@pytest.mark.parametrize("shard_bytes", [97, 3000, 2**26])
def test_text_round_trip(tmp_path: Path, shard_bytes: int) -> None:
    build_cache(map(_text, _TEXTS), _TOKENIZER, tmp_path / "c", shard_bytes=shard_bytes)
    cache = open_cache(tmp_path / "c", _TOKENIZER)
    wanted = [0] + [token for text in _TEXTS for token in [*_TOKENIZER.encode(text), 0]]
    assert cache.read(0, cache.tokens).tolist() == wanted
    assert cache.read(90, 300).tolist() == wanted[90:300]
    assert (cache.documents, cache.bytes) == (len(_TEXTS), sum(len(text.encode()) for text in _TEXTS))
    assert cache.facts.dtype == "<u2"
    assert not cache.has_mask
    assert not list((tmp_path / "c").glob("*.mask.bin"))
    assert cache.read_mask(0, 5).all()
    assert cache.facts.trained_tokens == cache.tokens - 1
    for text, start, stop in zip(_TEXTS, cache.starts[:-1], cache.starts[1:], strict=True):
        assert _TOKENIZER.decode(cache.read(int(start), int(stop)).tolist()) == text
    assert cache.starts[-1] == cache.tokens == len(cache)


def test_chat_mask(tmp_path: Path) -> None:
    documents = [_chat(f"What is {n}?", f"It is {n}.") for n in range(50)]
    cache = build_cache([_text("Some text first."), *documents], _TOKENIZER, tmp_path / "c", shard_bytes=128)
    assert cache.has_mask
    start, stop = (int(value) for value in cache.starts[1:3])
    ids, trained = _TOKENIZER.encode_chat(documents[0].messages or ())
    assert cache.read(start, stop).tolist() == [*ids, 0]
    assert cache.read_mask(start, stop).tolist() == [*trained, False]
    assert cache.read_mask(1, start).all()
    answers = sum(len(f"It is {n}.") for n in range(50))
    assert cache.facts.trained_bytes == answers + len("Some text first.")
    assert int(cache.read_mask(0, cache.tokens).sum()) == cache.facts.trained_tokens
    assert cache.bytes_per_trained_token == cache.facts.trained_bytes / cache.facts.trained_tokens


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    build_cache([_text("some text")], _TOKENIZER, tmp_path / "c")
    other = BPETokenizer(vocab_size=400).train([_SOURCE])
    with pytest.raises(LifelongError, match="another tokenizer"):
        open_cache(tmp_path / "c", other)


def test_damage_is_noticed(tmp_path: Path) -> None:
    out = tmp_path / "c"
    build_cache([_chat("a", "b")], _TOKENIZER, out)
    (out / "shard_00000.mask.bin").write_bytes(b"\0")
    with pytest.raises(LifelongError, match="the file has 1 bytes"):
        open_cache(out)
    (out / "shard_00000.bin").unlink()
    with pytest.raises(LifelongError, match="the file is missing"):
        open_cache(out)
    (out / "meta.json").write_text(json.dumps({"format": 2, "dtype": "<u2"}))
    with pytest.raises(LifelongError, match=r"meta\.json lacks"):
        open_cache(out)
    (out / "meta.json").write_text(json.dumps({"dtype": "<u2"}))
    with pytest.raises(LifelongError, match="not of format 2"):
        open_cache(out)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(LifelongError, match="no documents"):
        build_cache([], _TOKENIZER, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(LifelongError, match="never overwritten"):
        build_cache([_text("text")], _TOKENIZER, tmp_path)
    with pytest.raises(LifelongError, match="not a token cache"):
        open_cache(tmp_path)


def test_importing_the_rooms_loads_no_heavy_library() -> None:
    code = "import sys, lifelong.text, lifelong.tokens; print({'torch', 'numpy', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
