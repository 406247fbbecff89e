"""One way in for every tokenizer that lies on disk."""

from __future__ import annotations

from pathlib import Path

from lifelong.tokens.base import Tokenizer
from lifelong.tokens.tokenizer import BPETokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer directory, a model directory, or a ``tokenizer.json``.

    Raises:
        LifelongError: the file is missing, damaged, or lacks the special tokens of the chat format.
    """
    return BPETokenizer.load(path)
