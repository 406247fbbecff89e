"""The checker: documents go by one at a time, and a report comes out. Memory does not grow with their length."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from typing import Any, Protocol

from lifelong.text.cutting import piece_of
from lifelong.text.document import HUB_PREFIX, BadInput, Document
from lifelong.text.validation.conversations import conversation_problems
from lifelong.text.validation.language import SAMPLE, Languages
from lifelong.text.validation.places import place_of, snippet, where
from lifelong.text.validation.quality import REPEAT_WORDS, garbled, open_fence, prose_of, prose_problems
from lifelong.text.validation.repeats import Repeats
from lifelong.text.validation.report import Findings, ValidationReport
from lifelong.text.validation.secrets import find_secrets, mask, redact

_SOURCES = 50  # named in the facts
PERCENTILES = {1: "p1", 5: "p5", 50: "p50", 95: "p95", 99: "p99", 100: "longest"}
# Keys of a row beside its text that are facts about it; any other may be a misspelt key, or text that is not read.
_FACTS = {
    *("_id", "id", "uuid", "guid", "idx", "index", "row", "line", "title", "name", "source", "dataset", "url", "uri"),
    *("link", "path", "file", "filename", "category", "categories", "topic", "topics", "tag", "tags", "label"),
    *("labels", "type", "kind", "domain", "subject", "author", "authors", "user", "date", "day", "time", "created"),
    *("created_at", "updated", "updated_at", "timestamp", "lang", "language", "languages", "license", "licence"),
    *("version", "split", "meta", "metadata", "info", "weight", "score", "quality", "rating", "rank", "difficulty"),
    *("level", "length", "tokens", "token_count"),
}


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
        self._texts = 0
        self._kinds: Counter[str] = Counter()
        self._splits: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()
        self._lengths: Counter[int] = Counter()
        self._left_out: Counter[str] = Counter()

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
            self.findings.add("empty-text", place_of(document), document.name)
            return
        self._texts += 1
        self._check_records(document)
        self._check_prose(document)
        for hit in find_secrets(document.text):
            self.findings.add(
                hit.rule,
                partial(where, document, hit.start),
                f"{hit.kind} {mask(document.text[hit.start : hit.end])}",
                kind=hit.kind,
            )
        place = place_of(document)
        self._repeats.see(document, split, place, lambda: snippet(document.text), self.findings)
        self._languages.see(document, source)
        if self.tokens is not None:
            self.tokens.see(document, place, self.findings)

    def problem(self, error: BadInput) -> None:
        """Count what a reader could not read."""
        self.findings.add(error.rule, error.where or "?", lambda: redact(error.what), fix=error.fix or "")

    def left_out(self, what: str, count: int, place: str) -> None:
        """Count what a reader left out that is no problem: files of unknown suffix, keys of messages."""
        if what.startswith("key "):
            self.findings.add("unknown-keys", place, what, kind=what.removeprefix("key "), count=count)
        else:
            self._left_out[what] += count

    def report(self) -> ValidationReport:
        """Return what was found so far; called once, at the end.

        Where not one document has text, and no other error says why, that is an error of its own.
        """
        if not self._texts and not self.findings.has_errors:
            what = f"no text in {self._kinds.total():,} documents"
            self.findings.add("nothing-trained", ", ".join(self._sources) or "everywhere", what)
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
        if self._left_out:
            facts["left_out"] = dict(self._left_out)
        facts["sources"] = _largest(self._sources)
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
        if document.line is not None and not document.source.startswith(HUB_PREFIX):
            for key in document.meta.keys() - _FACTS:
                self.findings.add("unknown-keys", document.place, f"the key {key[:40]!r}", kind=key[:40])

    def _check_prose(self, document: Document) -> None:
        if document.kind == "code":
            return
        text = document.text
        # A text that was cut may have lost the end of a fence; plain text has none.
        if document.kind != "text" and not piece_of(document.name)[1]:
            start = 0
            for content in [message["content"] for message in document.messages] if document.messages else [text]:
                if (at := open_fence(content)) is not None:
                    at += start
                    self.findings.add("unbalanced-fence", partial(where, document, at), partial(snippet, text, at))
                start += len(content) + 1
        if found := garbled(text):
            self.findings.add("mojibake", partial(where, document, found[0]), redact(found[1]))
        if document.messages and len(text) < 2 * REPEAT_WORDS:  # answers are judged for repetition only
            return
        # They may well be numbers, symbols, lists.
        for rule, problem in prose_problems(prose_of(text), symbols=not document.messages):
            self.findings.add(rule, place_of(document), redact(problem))


def _largest(sources: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Return the counts of the largest sources, and the sum of the others: a tree can have ten thousand folders."""
    ranked = sorted(sources, key=lambda name: -sources[name]["bytes"])
    shown = {name: dict(sources[name]) for name in ranked[:_SOURCES]}
    if rest := ranked[_SOURCES:]:
        shown[f"{len(rest):,} others"] = dict(sum((sources[name] for name in rest), Counter()))
    return shown


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
