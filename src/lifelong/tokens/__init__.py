"""Tokenizers, token shards and the deterministic loader. Importing the package loads neither numpy nor torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lifelong.tokens.base import Tokenizer
    from lifelong.tokens.building import build_cache
    from lifelong.tokens.loader import Batch, Loader
    from lifelong.tokens.loading import load_tokenizer
    from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
    from lifelong.tokens.shards import TokenCache, open_cache
    from lifelong.tokens.tokenizer import BPETokenizer

_HOMES = {
    "BPETokenizer": "tokenizer",
    "Tokenizer": "base",
    "load_tokenizer": "loading",
    "TokenCache": "shards",
    "build_cache": "building",
    "open_cache": "shards",
    "ChatSource": "rows",
    "RowSource": "rows",
    "WindowSource": "rows",
    "Batch": "loader",
    "Loader": "loader",
}

__all__ = [
    "BPETokenizer",
    "Batch",
    "ChatSource",
    "Loader",
    "RowSource",
    "TokenCache",
    "Tokenizer",
    "WindowSource",
    "build_cache",
    "load_tokenizer",
    "open_cache",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lifelong.tokens.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
