"""What single tokens spell, also those that spell only a part of a character."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lifelong.tokens.base import Tokenizer
from lifelong.tokens.words import byte_names

_BYTE = re.compile("<0x[0-9A-F]{2}>")


def piece(tokenizer: Tokenizer, token: int) -> str:
    """Return what a token spells; bytes that are no whole character come out as ``<0xE4><0xB8>``."""
    text = tokenizer.decode([token], skip_special_tokens=False)
    if "\ufffd" not in text:
        return text
    name = str(tokenizer.library.id_to_token(token))
    byte_of = {character: byte for byte, character in byte_names().items()}
    if _BYTE.fullmatch(name) or not set(name) <= byte_of.keys():
        return name
    return "".join(f"<0x{byte_of[character]:02X}>" for character in name)


def is_fragment(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a token spells no whole character: a byte to fall back on, or a part of a character."""
    name = str(tokenizer.library.id_to_token(token))
    return bool(_BYTE.fullmatch(name)) or "\ufffd" in tokenizer.decode([token])


def piece_bytes(tokenizer: Tokenizer, token: int) -> int:
    """Return the UTF-8 bytes that a token spells within a text."""
    name = str(tokenizer.library.id_to_token(token))
    if _BYTE.fullmatch(name):
        return 1
    text = tokenizer.decode([token], skip_special_tokens=False)
    if "\ufffd" in text:  # a part of a character: every sign of a byte-level name is a byte
        return len(name)
    return len((name.replace("▁", " ") if name.startswith("▁") else text).encode("utf-8"))


def spelled_bytes(tokenizer: Tokenizer, labels: Iterable[int], known: dict[int, int]) -> int:
    """Return the UTF-8 bytes that tokens spell within a text: special ones, and those that are none, spell nothing.

    ``known`` keeps what was found, for the next call.
    """
    total = 0
    for label in labels:
        if label not in known:
            is_text = 0 <= label < tokenizer.vocab_size and label not in tokenizer.marks
            known[label] = piece_bytes(tokenizer, label) if is_text else 0
        total += known[label]
    return total
