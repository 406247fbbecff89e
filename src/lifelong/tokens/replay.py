"""Replay memory as sources of a mixture: nothing but one more kind of text."""

from __future__ import annotations

from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.building import build_caches
from lifelong.tokens.pairs import PairSource
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource


def replay_sources(
    memory: ReplayMemory, tokenizer: Tokenizer, folder: Path, sequence_length: int, share: float, *, pairs: bool = False
) -> list[tuple[RowSource, float]]:
    """Return the sources of remembered text, by domain and weight, which together have ``share`` of the rows.

    Domains have equal parts; within a domain, parts go by tokens. A source's importance is the weight that its examples
    were remembered with. A domain with less text than one row is left out, and that is said.

    Args:
        folder: where the token caches are kept; those already there are used again.
        pairs: conversations become prompts and answers, for an encoder-decoder model.
    """
    found: list[list[tuple[RowSource, float]]] = []
    for domain, examples in memory.examples.items():
        weights = sorted({example.weight for example in examples})
        sources: list[tuple[RowSource, float]] = []
        for weight in weights:
            place = folder / (domain if weight == 1.0 else f"{domain}@{weight:g}")
            mine = [example for example in examples if example.weight == weight]
            for cache in build_caches(mine, tokenizer, place, sequence_length):
                try:
                    chat = PairSource if pairs else ChatSource
                    source: RowSource = (chat if cache.has_mask else WindowSource)(cache, sequence_length)
                except LifelongError as error:
                    progress.note(f"note: too little of '{domain}' is remembered to learn from it again: {error.what}")
                    continue
                source.importance = weight
                sources.append((source, float(cache.tokens)))
        if sources:
            found.append(sources)
    return [
        (source, share / len(found) * tokens / sum(size for _, size in sources))
        for sources in found
        for source, tokens in sources
    ]
