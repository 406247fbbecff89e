"""Replay memory: a bounded, domain-balanced sample of past text. Text, not token ids, so it outlives a tokenizer."""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.files import write_text
from lifelong.text.cleaning import content_hash
from lifelong.text.cutting import PIECE, cut
from lifelong.text.document import Document
from lifelong.text.splitting import position

SLICE_BYTES = 1_000_000
_LEAST = PIECE // 16  # bytes that an example counts: its row holds more than the text


class ReplayMemory:
    """Text of at most ``capacity`` examples of `PIECE` bytes, shared equally among the domains.

    Shorter examples take less room, so that a domain of short ones, such as conversations, is remembered as well as one
    of long texts. Which examples of a domain are kept is weighted reservoir sampling (Efraimidis & Spirakis 2006): each
    gets the key u^(1/weight) with u a hash of seed and text, and those with the largest stay, up to the one that
    reaches the domain's room (or passes it). The choice depends neither on the order in which text arrives nor on how
    often the memory was filled up.
    """

    def __init__(self, capacity: int = 1000, seed: int = 0) -> None:
        self.capacity, self.seed = capacity, seed
        self.examples: dict[str, list[Document]] = defaultdict(list)

    def add(self, documents: Iterable[Document], domain: str) -> None:
        """Offer documents of a domain. Long texts are cut at blank lines into examples of about 4 kB."""
        known = {content_hash(example) for example in self.examples[domain]}
        for document in documents:
            for example in [document] if document.messages else cut(document):
                if (digest := content_hash(example)) not in known:
                    known.add(digest)
                    self.examples[domain].append(example)
        self.shrink()

    def shrink(self) -> None:
        """Let go of what has no room."""
        room = self._room()
        for domain, held in self.examples.items():
            examples = sorted(held, key=self._key, reverse=True)
            ends = list(itertools.accumulate(map(_size, examples)))
            self.examples[domain] = examples[: bisect.bisect_left(ends, room) + 1 if room else 0]

    def _room(self) -> int:
        """Return the bytes that each domain may fill: one with less leaves the rest to the others."""
        sizes = sorted(sum(map(_size, examples)) for examples in self.examples.values() if examples)
        free = self.capacity * PIECE
        for number, size in enumerate(sizes):
            share = free // (len(sizes) - number)
            if size > share:
                return share
            free -= size
        return max(free, *sizes, 0)

    @property
    def size(self) -> int:
        """The capacity that what is held needs."""
        return math.ceil(sum(map(_size, self.documents())) / PIECE)

    def _key(self, example: Document) -> float:
        return float(position(str(content_hash(example)), self.seed) ** (1.0 / example.weight))

    def of(self, domains: Iterable[str]) -> ReplayMemory:
        """Return a memory of the same examples, of these domains alone."""
        memory = ReplayMemory(self.capacity, self.seed)
        memory.examples |= {domain: self.documents(domain) for domain in domains}
        return memory

    def documents(self, domain: str | None = None) -> list[Document]:
        """Return the examples of one domain, or all."""
        if domain is not None:
            return list(self.examples.get(domain, []))
        return [example for examples in self.examples.values() for example in examples]

    def counts(self) -> dict[str, int]:
        """Return how many examples each domain has."""
        return {domain: len(examples) for domain, examples in self.examples.items() if examples}

    def save(self, path: Path) -> None:
        """Write the examples as JSON lines."""
        lines = [
            json.dumps({**example.row(), "domain": domain}, ensure_ascii=False)
            for domain, examples in self.examples.items()
            for example in examples
        ]
        write_text(path, "".join(f"{line}\n" for line in lines))

    @classmethod
    def load(cls, path: Path, capacity: int = 1000, seed: int = 0) -> ReplayMemory:
        """Read what `save` wrote; an absent file is an empty memory."""
        memory = cls(capacity, seed)
        for example in read_slice(path) if path.is_file() else []:
            memory.examples[example.domain].append(example)
        return memory


def _size(example: Document) -> int:
    return max(example.bytes, _LEAST)


def frozen(documents: Sequence[Document], *, seed: int = 0, max_bytes: int = SLICE_BYTES) -> list[Document]:
    """Return the documents that `write_slice` would freeze, in its order: by hash, up to ``max_bytes``."""
    kept: list[Document] = []
    total = 0
    for document in sorted(documents, key=lambda document: position(str(content_hash(document)), seed)):
        total += document.bytes
        if kept and total > max_bytes:
            break
        kept.append(document)
    return kept


def write_slice(documents: Sequence[Document], path: Path, *, seed: int = 0, max_bytes: int = SLICE_BYTES) -> int:
    """Freeze documents as JSON lines, in an order by hash, up to ``max_bytes``; returns how many were left out."""
    kept = frozen(documents, seed=seed, max_bytes=max_bytes)
    write_documents(kept, path)
    return len(documents) - len(kept)


def write_documents(documents: Iterable[Document], path: Path) -> None:
    """Write documents as JSON lines, in their order; `read_slice` reads them."""
    write_text(path, "".join(json.dumps(document.row(), ensure_ascii=False) + "\n" for document in documents))


def read_slice(path: Path) -> list[Document]:
    """Read documents that `write_slice` or `ReplayMemory.save` wrote.

    Raises:
        LifelongError: a line cannot be read; names it.
    """
    documents = []
    with path.open(encoding="utf-8", newline="\n") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                documents.append(Document.from_row(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise LifelongError(f"not a document row: {error!r}", where=f"{path}:{number}") from None
    return documents
