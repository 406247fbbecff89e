"""One way in for every tokenizer that lies on disk."""

from __future__ import annotations

from pathlib import Path

from lifelong.files import read_json
from lifelong.tokens.base import CONFIG, Tokenizer
from lifelong.tokens.special import SpecialTokens
from lifelong.tokens.tokenizer import BPETokenizer, find_json


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer directory, a model directory, a ``tokenizer.json`` or a ``spm.model``.

    Raises:
        LifelongError: the file is missing, damaged, or lacks the special tokens of the chat format.
    """
    path = Path(path)
    if path.suffix == ".model" or (path / "spm.model").is_file():
        from lifelong.tokens.sentencepiece import SentencePieceTokenizer

        return SentencePieceTokenizer.load(path)
    config = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    if "lifelong_special_tokens" not in config:
        return BPETokenizer.load(path)
    tokenizer = Tokenizer()
    tokenizer.special = SpecialTokens(**config["lifelong_special_tokens"])
    file = find_json(path)
    tokenizer.adopt(file.read_bytes(), str(file))
    return tokenizer
