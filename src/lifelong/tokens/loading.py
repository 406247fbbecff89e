"""One way in for every tokenizer that lies on disk."""

from __future__ import annotations

from pathlib import Path

from lifelong.tokens.base import Tokenizer
from lifelong.tokens.tokenizer import BPETokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer directory, a model directory, a ``tokenizer.json`` or a ``spm.model``.

    Raises:
        LifelongError: the file is missing, damaged, or lacks the special tokens of the chat format.
    """
    path = Path(path)
    if path.suffix == ".model" or (path / "spm.model").is_file():
        from lifelong.tokens.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer.load(path)
    return BPETokenizer.load(path)
