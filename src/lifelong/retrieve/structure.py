"""What a text is made of: headings, fenced code and paragraphs, each with its place in characters."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lifelong.text.readers.listing import SUFFIXES, suffix_of

Markup = Literal["markdown", "asciidoc", "text", "unknown", "none"]

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\n]*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+([^\n]*?))?(?:[ \t]+#+)?[ \t]*\r?\n?\Z")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*\r?\n?\Z")
_DELIMITER = re.compile(r"(-{4,}|\.{4,}|\+{4,}|/{4,}|`{3})[ \t]*[^\s`]*[ \t]*\r?\n?\Z")  # of AsciiDoc's blocks of code
_EQUALS = re.compile(r"(={1,6})[ \t]+([^\n]*?)(?:[ \t]+=+)?[ \t]*\r?\n?\Z")
_RULE = re.compile(r"(={2,}|-{2,}|~{2,}|\^{2,}|\+{2,})[ \t]*\r?\n?\Z")
_BELIEVED = 0.9  # share of the lines that look like headings which stand alone, where they are headings
_LONGEST_TITLE = 200  # characters: a longer line above a rule is a paragraph


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a text without blank lines around it: a heading, fenced code (with its fences), or a paragraph.

    ``level`` is 1 to 6 for a heading, and 0 for anything else; ``title`` a heading's text.
    """

    start: int
    end: int
    level: int = 0
    title: str = ""
    fenced: bool = False


def markup_of(kind: str, name: str) -> Markup:
    """Return how headings are written in a text of this kind, from a file of this name."""
    if kind in ("code", "markdown"):
        return "none" if kind == "code" else "markdown"
    suffix = suffix_of(Path(name))[0]
    if suffix in (".adoc", ".asciidoc"):
        return "asciidoc"
    return "text" if SUFFIXES.get(suffix) == "text" and suffix not in (".txt", ".text") else "unknown"


def believable(text: str) -> bool:
    """Whether the lines of a text that look like headings of Markdown (``# Title``) are headings.

    They stand alone, between blank lines. A comment within code has the code below it, or other comments.
    """
    alone = signs = 0
    above, fence = "", ""
    lines = [line[0] for line in _LINE.finditer(text)]
    for line, below in zip(lines, [*lines[1:], ""], strict=False):
        if mark := _FENCE.match(line):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        elif not fence and _ATX.match(line):
            signs += 1
            alone += not above.strip() and not below.strip()
        above = line
    return alone > _BELIEVED * signs


def blocks(text: str, *, markup: Markup = "markdown") -> Iterator[Block]:
    """Yield the blocks of a text in order; between them stands white space only.

    Headings are CommonMark's (``# Title``, and a line underlined with ``===`` or ``---``), fences of backticks or
    tildes; a fence that is never closed reaches to the end. AsciiDoc's are ``== Title`` or underlined, and its
    delimited blocks are fences. ``text`` knows underlined headings alone, ``unknown`` those of Markdown where they are
    `believable`, and ``none`` has paragraphs only.
    """
    if markup == "unknown":
        markup = "markdown" if believable(text) else "text"
    start: int | None = None  # where the paragraph that is being read begins
    end = 0
    fence, fence_start = "", 0
    for line in _LINE.finditer(text):
        words, low, high = line[0], line.start(), line.end()
        if fence:
            if _closes(words, fence, markup):
                yield Block(fence_start, low + len(words.rstrip()), fenced=True)
                fence = ""
            continue
        if not words.strip():
            if start is not None:
                yield Block(start, end)
                start = None
            continue
        if markup != "none":
            # A heading's rule may look like what opens AsciiDoc's code; only Markdown's fences cannot be rules.
            one_line = start is not None and "\n" not in text[start:end] and end - start <= _LONGEST_TITLE
            level = _underlines(words, text[start:end], markup) if one_line else 0
            if level and start is not None:
                yield Block(start, low + len(words.rstrip()), level, text[start:end].strip())
                start = None
                continue
            fence = _opens(words, markup)
            heading = None if fence else _heading(words, markup)
            if (fence or heading) and start is not None:
                yield Block(start, end)
                start = None
            if fence:
                fence_start = low + len(words) - len(words.lstrip())
                continue
            if heading:
                yield Block(low, low + len(words.rstrip()), *heading)
                continue
        if start is None:
            start = low
        end = low + len(words.rstrip())
        if high == len(text):
            break
    if fence:
        yield Block(fence_start, fence_start + len(text[fence_start:].rstrip()), fenced=True)
    elif start is not None:
        yield Block(start, end)


def _opens(line: str, markup: Markup) -> str:
    """Return the mark of the fence that a line opens, or an empty string."""
    if markup == "asciidoc":
        found = _DELIMITER.match(line)
        return found[1] if found else ""
    found = _FENCE.match(line)
    return found[1] if found and not ("`" in found[1] and "`" in found[2]) else ""


def _closes(line: str, fence: str, markup: Markup) -> bool:
    if markup == "asciidoc":
        return line.rstrip() == fence
    found = _FENCE.match(line)
    return bool(found and found[1].startswith(fence) and not found[2].strip())


def _heading(line: str, markup: Markup) -> tuple[int, str] | None:
    """Return level and title of a line that is a heading by itself."""
    found = {"markdown": _ATX, "asciidoc": _EQUALS}[markup].match(line) if markup in ("markdown", "asciidoc") else None
    return (len(found[1]), (found[2] or "").strip()) if found else None


def _underlines(line: str, title: str, markup: Markup) -> int:
    """Return the level of the heading that a line makes of the one above it; 0 where it makes none.

    Outside of Markdown a rule is about as long as its title: others begin and end code, or tables.
    """
    if markup == "markdown":
        rule = _UNDERLINE.match(line)
        return 0 if rule is None else 1 if "=" in rule[1] else 2
    rule = _RULE.match(line)
    longer = len(line.rstrip()) - len(title.strip())
    if rule is None or not -1 <= longer or (markup == "asciidoc" and longer > 1) or not re.match(r"\w", title):
        return 0
    return "=-~^+".index(rule[1][0]) + 1


@dataclass(slots=True)
class Outline:
    """The headings above every place of a text."""

    starts: list[int]
    paths: list[tuple[str, ...]]

    @classmethod
    def of(cls, parts: Sequence[Block]) -> Outline:
        """Read the headings among the blocks of a text."""
        starts, paths = [], []
        open_headings: list[tuple[int, str]] = []
        for part in parts:
            if part.level:
                open_headings = [item for item in open_headings if item[0] < part.level] + [(part.level, part.title)]
                starts.append(part.start)
                paths.append(tuple(title for _, title in open_headings if title))
        return cls(starts, paths)

    def above(self, place: int) -> tuple[str, ...]:
        """Return the titles of the headings that begin before a place, the outermost first.

        A heading that begins at the place is not above it, and closes those of its level and below.
        """
        at = bisect_left(self.starts, place)
        here = self.paths[at][:-1] if at < len(self.starts) and self.starts[at] == place else None
        if here is not None:
            return here
        return self.paths[at - 1] if at else ()


class Fences:
    """Where a text's fenced code stands."""

    def __init__(self, parts: Sequence[Block]) -> None:
        self._spans = [(part.start, part.end) for part in parts if part.fenced]
        self._starts = [start for start, _ in self._spans]

    def around(self, place: int) -> tuple[int, int] | None:
        """Return the fence that a cut at ``place`` would divide."""
        at = bisect_left(self._starts, place) - 1
        return self._spans[at] if at >= 0 and place < self._spans[at][1] else None

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the fences that lie wholly in a span."""
        inside = self._spans[bisect_left(self._starts, start) : bisect_left(self._starts, end)]
        return [span for span in inside if span[1] <= end]
