"""What a text is made of: headings, fenced code and paragraphs, each with its place in characters."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\n]*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+([^\n]*?))?(?:[ \t]+#+)?[ \t]*\r?\n?\Z")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*\r?\n?\Z")
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


def blocks(text: str, *, markdown: bool = True) -> Iterator[Block]:
    """Yield the blocks of a text in order; between them stands white space only.

    Headings are CommonMark's (``# Title``, and a line underlined with ``===`` or ``---``), fences of backticks or
    tildes; a fence that is never closed reaches to the end. Without ``markdown`` there are paragraphs only.
    """
    start: int | None = None  # where the paragraph that is being read begins
    end = 0
    fence, fence_start = "", 0
    for line in _LINE.finditer(text):
        words, low, high = line[0], line.start(), line.end()
        if fence:
            closing = _FENCE.match(words)
            if closing and closing[1].startswith(fence) and not closing[2].strip():
                yield Block(fence_start, low + len(words.rstrip()), fenced=True)
                fence = ""
            continue
        if not words.strip():
            if start is not None:
                yield Block(start, end)
                start = None
            continue
        if markdown:
            opening = _FENCE.match(words)
            if opening and not ("`" in opening[1] and "`" in opening[2]):
                if start is not None:
                    yield Block(start, end)
                    start = None
                fence, fence_start = opening[1], low + len(words) - len(words.lstrip())
                continue
            if heading := _ATX.match(words):
                if start is not None:
                    yield Block(start, end)
                    start = None
                yield Block(low, low + len(words.rstrip()), len(heading[1]), (heading[2] or "").strip())
                continue
            rule = _UNDERLINE.match(words) if start is not None else None
            if rule and start is not None and "\n" not in text[start:end] and end - start <= _LONGEST_TITLE:
                yield Block(start, low + len(words.rstrip()), 1 if "=" in rule[1] else 2, text[start:end].strip())
                start = None
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
