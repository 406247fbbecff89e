"""What stands there twice: exact and near duplicates, one question with two answers, and leaks between splits.

Texts are not kept: a hash and a place of each document, and a digest for near duplicates of the first ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from lifelong.text.cleaning import content_hash
from lifelong.text.document import Document, spell_place
from lifelong.text.splitting import SPLITS
from lifelong.text.validation.conversations import last_answer, question_and_answer
from lifelong.text.validation.report import Findings

# Documents that are remembered: about 250 bytes each for exact duplicates, and 3 kB for near ones. Later documents are
# still compared with these; the facts say that the memory was full.
MOST = 4_000_000
MOST_NEAR = 100_000
_LINES = 40  # bits of a packed place that hold the line


class Repeats:
    """Remembers what went by, and names for each document an earlier one that it repeats.

    Args:
        near: whether near duplicates are looked for.
    """

    def __init__(self, *, near: bool = True) -> None:
        self._files: dict[str, int] = {}
        self._seen: dict[int, int] = {}  # content -> place of the first, and the splits it was seen in
        self._answers: dict[int, tuple[int, int]] = {}  # question -> answer and place of the first
        self._near: Any = None
        self._documents = self._near_documents = 0
        if near:
            from lifelong.text.duplicates import NearDuplicates

            self._near = NearDuplicates()

    def see(self, document: Document, split: str, where: str, snippet: Callable[[], str], findings: Findings) -> None:
        """Compare a document with those before it, and remember it."""
        self._documents += 1
        key = int(content_hash(document)[:16], 16)
        bit = 1 << SPLITS.index(split) if split in SPLITS else 0
        if (held := self._seen.get(key)) is not None:
            self._exact(held, bit, where, snippet, findings)
            self._seen[key] = held | bit
            return
        place = self._pack(document)
        if len(self._seen) < MOST:
            self._seen[key] = place << len(SPLITS) | bit
        if document.messages:
            self._conflict(document, place, where, snippet, findings)
        if self._near is not None:
            self._nearly(document, split, where, snippet, findings)

    def facts(self) -> dict[str, Any]:
        """Say where the memory was too small for all documents."""
        facts: dict[str, Any] = {}
        if self._documents > MOST:
            facts["duplicates"] = f"looked for among the first {MOST:,} documents"
        if self._near is None:
            facts["near_duplicates"] = "not looked for"
        elif len(self._near.keys) >= MOST_NEAR:
            facts["near_duplicates"] = f"looked for among the first {MOST_NEAR:,} documents"
        return facts

    def _exact(self, held: int, bit: int, where: str, snippet: Callable[[], str], findings: Findings) -> None:
        def first() -> str:
            return f"same as {self._unpack(held >> len(SPLITS))}: {snippet()}"

        before = held & (1 << len(SPLITS)) - 1
        if not before or not bit or before == bit:
            findings.add("exact-duplicate", where, first)
            return
        train, gate, test = (1 << number for number in range(len(SPLITS)))
        if before | bit in (train | test, train | gate | test) and bit != gate:
            findings.add("split-overlap", where, first)
        else:
            findings.add("split-leak", where, first, kind="identical")

    def _conflict(
        self, document: Document, place: int, where: str, snippet: Callable[[], str], findings: Findings
    ) -> None:
        pair = question_and_answer(document.messages or ())
        if pair is None:
            return
        question, answer = (_hash(" ".join(text.split())) for text in (pair[0].casefold(), pair[1]))
        before = self._answers.get(question)
        if before is None:
            if len(self._answers) < MOST:
                self._answers[question] = answer, place
        elif before[0] != answer:
            findings.add("conflicting-answers", where, lambda: f"asked in {self._unpack(before[1])} too: {snippet()}")

    def _nearly(
        self, document: Document, split: str, where: str, snippet: Callable[[], str], findings: Findings
    ) -> None:
        if len(self._near.keys) >= MOST_NEAR:
            return
        # Questions on one long passage are nearly the same text; with another short answer they are other questions.
        short = last_answer(document.messages)
        twin = self._near.find_or_add(document.text, f"{split}\0{where}\0{short}")
        if twin is None:
            return
        other, place, answer = twin.split("\0", 2)
        if answer != short:
            return
        if split != other and split in SPLITS and other in SPLITS:
            here = f"in {split}, nearly {place} in {other}"
            findings.add("split-leak", where, lambda: f"{here}: {snippet()}", kind="nearly the same")
        else:
            findings.add("near-duplicate", where, lambda: f"nearly {place}: {snippet()}")

    def _pack(self, document: Document) -> int:
        return self._files.setdefault(document.source, len(self._files)) << _LINES | _unsigned(document.line or 0)

    def _unpack(self, place: int) -> str:
        number, line = place >> _LINES, place & (1 << _LINES) - 1
        # Only for the few examples: the names are in the order in which they were numbered.
        file = next(name for name, index in self._files.items() if index == number)
        return spell_place(file, -(line >> 1) if line & 1 else line >> 1)


def _unsigned(line: int) -> int:
    """Return a line, which may be below 0, as a number that is not: the last bit is its sign."""
    return -line << 1 | 1 if line < 0 else line << 1


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
