"""What single tokens spell, also those that spell only a part of a character."""

from __future__ import annotations

import re
from functools import cache

from lifelong.tokens.base import Tokenizer

_BYTE = re.compile("<0x[0-9A-F]{2}>")


def piece(tokenizer: Tokenizer, token: int) -> str:
    """Return what a token spells; bytes that are no whole character come out as ``<0xE4><0xB8>``."""
    text = tokenizer.decode([token], skip_special_tokens=False)
    if "\ufffd" not in text:
        return text
    name = str(tokenizer.library.id_to_token(token))
    if _BYTE.fullmatch(name) or not set(name) <= _byte_of().keys():
        return name
    return "".join(f"<0x{_byte_of()[character]:02X}>" for character in name)


def is_fragment(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a token spells no whole character: a byte to fall back on, or a part of a character."""
    name = str(tokenizer.library.id_to_token(token))
    return bool(_BYTE.fullmatch(name)) or "\ufffd" in tokenizer.decode([token])


@cache
def _byte_of() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves, the other bytes for U+0100 and up (GPT-2's `bytes_to_unicode`).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}
