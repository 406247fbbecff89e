"""Replay memory as sources of a mixture: nothing but one more kind of text."""

from __future__ import annotations

from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.building import build_cache
from lifelong.tokens.pairs import PairSource
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
from lifelong.tokens.shards import open_cache


def replay_sources(
    memory: ReplayMemory, tokenizer: Tokenizer, folder: Path, sequence_length: int, share: float, *, pairs: bool = False
) -> list[tuple[RowSource, float]]:
    """Return one source per remembered domain, which together have ``share`` of the rows.

    Domains have equal parts. A domain with less text than one row is left out, and that is said.

    Args:
        folder: where the token caches are kept; those already there are used again.
        pairs: conversations become prompts and answers, for an encoder-decoder model.
    """
    found: list[RowSource] = []
    for domain, examples in memory.examples.items():
        if not examples:
            continue
        place = folder / domain
        cache = open_cache(place, tokenizer) if place.exists() else build_cache(examples, tokenizer, place)
        try:
            chat = PairSource if pairs else ChatSource
            found.append((chat if cache.has_mask else WindowSource)(cache, sequence_length))
        except LifelongError as error:
            progress.note(f"note: domain '{domain}' is not replayed: {error.what}")
    return [(source, share / len(found)) for source in found]
