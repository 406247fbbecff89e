"""The checker: documents go by one at a time, and a report comes out. Memory does not grow with their length."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Protocol

from lifelong.text.document import BadInput, Document
from lifelong.text.validation.conversations import conversation_problems
from lifelong.text.validation.language import SAMPLE, Languages
from lifelong.text.validation.quality import garbled, open_fence, prose_of, prose_problems
from lifelong.text.validation.repeats import Repeats
from lifelong.text.validation.report import Findings, ValidationReport
from lifelong.text.validation.secrets import find_secrets, mask, redact

PERCENTILES = {1: "p1", 5: "p5", 50: "p50", 95: "p95", 99: "p99", 100: "longest"}
_SNIPPET = 60  # characters
_WIDE = 400  # characters around a snippet in which secrets are masked, so that none is cut in two and shown


class TokenCheck(Protocol):
    """Checks that need a tokenizer; see `lifelong.tokens.checks`."""

    def see(self, document: Document, where: str, findings: Findings) -> None:
        """Look at a document that has text."""
        ...

    def finish(self, findings: Findings) -> dict[str, Any]:
        """Report what was left, and return the facts about tokens."""
        ...


class Checker:
    """Checks documents as they go by.

    Args:
        examples: places kept of each rule.
        near: whether near duplicates are looked for.
        languages: documents of each source whose language is guessed; 0 guesses none.
        tokens: checks that need a tokenizer.
    """

    def __init__(
        self, *, examples: int = 5, near: bool = True, languages: int = SAMPLE, tokens: TokenCheck | None = None
    ) -> None:
        self.findings = Findings(examples)
        self.tokens = tokens
        self._repeats = Repeats(near=near)
        self._languages = Languages(languages)
        self._sources: dict[str, Counter[str]] = {}
        self._kinds: Counter[str] = Counter()
        self._splits: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()

    def see(self, document: Document, split: str = "", source: str = "") -> None:
        """Check one document.

        Args:
            document: as it was read, before cleaning.
            split: train, gate or test, where it is in one; by default what the source itself says.
            source: the name its facts are counted under; by default the folder it comes from.
        """
        split = split or str(document.meta.get("split", ""))
        source = source or os.path.dirname(document.source) or document.source  # noqa: PTH120  (50 times a Path's speed)
        self._count(document, split, source)
        if not document.text.strip() and not document.messages:
            self.findings.add("empty-text", document.place, document.name)
            return
        self._check_records(document)
        self._check_prose(document)
        for hit in find_secrets(document.text):
            value = document.text[hit.start : hit.end]
            self.findings.add(hit.rule, where(document, hit.start), f"{hit.kind} {mask(value)}", kind=hit.kind)
        place = where(document)
        self._repeats.see(document, split, place, lambda: snippet(document.text), self.findings)
        self._languages.see(document, source)
        if self.tokens is not None:
            self.tokens.see(document, place, self.findings)

    def problem(self, error: BadInput) -> None:
        """Count what a reader could not read."""
        self.findings.add(error.rule, error.where or "?", lambda: redact(error.what), fix=error.fix or "")

    def report(self) -> ValidationReport:
        """Return what was found so far; called once, at the end."""
        facts: dict[str, Any] = {
            "documents": self._kinds.total(),
            "bytes": sum(counts["bytes"] for counts in self._sources.values()),
            "kinds": dict(self._kinds),
        }
        if self._splits:
            facts["splits"] = dict(self._splits)
        if self._roles:
            facts["roles"] = dict(self._roles)
        facts["bytes_per_document"] = percentiles(self._lengths)
        facts["sources"] = {name: dict(counts) for name, counts in self._sources.items()}
        facts |= self._languages.finish(self.findings) | self._repeats.facts()
        if self.tokens is not None:
            facts |= self.tokens.finish(self.findings)
        return self.findings.report(facts)

    def _count(self, document: Document, split: str, source: str) -> None:
        size = document.bytes
        counts = self._sources.setdefault(source, Counter())
        counts["documents"] += 1
        counts["bytes"] += size
        self._kinds[document.kind] += 1
        self._lengths[rounded(size)] += 1
        if split:
            self._splits[split] += 1
        for message in document.messages or ():
            self._roles[message["role"]] += 1

    def _check_records(self, document: Document) -> None:
        for rule, problem in conversation_problems(document.messages) if document.messages else ():
            self.findings.add(rule, document.place, f"{problem}: {snippet(document.text)}")
        for key in document.meta.get("unknown_keys", ()):
            self.findings.add("unknown-keys", document.place, repr(key), kind=str(key))

    def _check_prose(self, document: Document) -> None:
        if document.kind == "code":
            return
        text = document.text
        for content in [message["content"] for message in document.messages] if document.messages else [text]:
            # A text that was cut may lose the end of a fence; a plain text has none.
            if document.kind != "text" and "#" not in document.name and (at := open_fence(content)) is not None:
                self.findings.add("unbalanced-fence", where(document, at), lambda: snippet(content, at))  # noqa: B023
        if found := garbled(text):
            self.findings.add("mojibake", where(document, found[0]), lambda: redact(found[1]))
        for rule, problem in prose_problems(prose_of(text)):
            if rule == "repetition" or not document.messages:  # answers may well be numbers, symbols, lists
                self.findings.add(rule, where(document), redact(problem))


def where(document: Document, offset: int = 0) -> str:
    """Return ``file:line`` of a place in a document; of a piece of a longer text, the file and the piece."""
    if document.line is not None:
        return document.place
    _, cut, piece = document.name.partition("#")
    if cut:
        return f"{document.source} (piece {piece})"
    return f"{document.source}:{1 + document.text.count(chr(10), 0, offset)}"


def snippet(text: str, at: int = 0) -> str:
    """Return the first words of a text (or from an offset on) in quotes, secrets masked."""
    start = max(0, at - _WIDE)
    wide = text[start : at + _WIDE]
    shown = " ".join((redact(wide[: at - start])[-1:] + redact(wide[at - start :]) if start else redact(wide)).split())
    return repr(shown[:_SNIPPET] + ("…" if len(shown) > _SNIPPET else ""))


def rounded(length: int) -> int:
    """Round to three digits: percentiles err by half a percent, and the memory for them is bounded."""
    if length < 1000:
        return length
    step: int = 10 ** (len(str(length)) - 3)
    return length // step * step


def percentiles(lengths: Counter[int]) -> dict[str, int]:
    """Return the percentiles of counted lengths (nearest rank)."""
    found: dict[str, int] = {}
    total, seen = lengths.total(), 0
    wanted = list(PERCENTILES)
    for length in sorted(lengths):
        seen += lengths[length]
        while wanted and seen * 100 >= wanted[0] * total:
            found[PERCENTILES[wanted.pop(0)]] = length
    return found
