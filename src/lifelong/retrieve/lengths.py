"""Units of a text brought to lengths: what is too long is cut, and what is short is joined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lifelong.retrieve.structure import Fences

Span = tuple[int, int]


def trim(text: str, start: int, end: int) -> Span:
    """Return a span without the white space at its ends."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def fit(
    text: str, units: Iterable[Span], min_length: int, max_length: int, fences: Fences, walls: set[int]
) -> Iterator[Span]:
    """Yield units as spans between the two lengths, where that can be; ``walls`` are the starts of headings.

    What is short waits for the next, a heading for what stands below it; what is short before a heading, or at the
    end, joins the one before it.
    """
    done: Span | None = None  # may still take in the next one
    held: Span | None = None  # short: looks for company
    for span in _cut_all(text, units, max_length, fences):
        if held is not None:
            wall = span[0] in walls and held[0] not in walls
            if span[1] - held[0] <= max_length and not wall:
                span, held = (held[0], span[1]), None
            else:
                if done is not None and held[1] - done[0] <= max_length and held[0] not in walls:
                    done, held = (done[0], held[1]), None
                if done is not None:
                    yield done
                done, held = held, None
        if span[1] - span[0] < min_length:
            held = span
            continue
        if done is not None:
            yield done
        done = span
    if held is not None and done is not None and held[1] - done[0] <= max_length and held[0] not in walls:
        done, held = (done[0], held[1]), None
    yield from (span for span in (done, held) if span is not None)


def _cut_all(text: str, units: Iterable[Span], max_length: int, fences: Fences) -> Iterator[Span]:
    for start, end in units:
        low, high = trim(text, start, end)
        if high - low <= max_length:
            if low < high:
                yield low, high
            continue
        for begin, stop, is_fence in _around(low, high, fences):
            yield from _cut(text, begin, stop, max_length, is_fence)


def _around(low: int, high: int, fences: Fences) -> Iterator[tuple[int, int, bool]]:
    for begin, stop in fences.within(low, high):
        if begin > low:
            yield low, begin, False
        yield begin, stop, True
        low = stop
    if low < high:
        yield low, high, False


def _cut(text: str, start: int, end: int, max_length: int, code: bool) -> Iterator[Span]:
    """Yield a stretch in parts that fit: at the last good place before the limit."""
    low, high = trim(text, start, end)
    marks = _LINE_ENDS if code else _MARKS
    while high - low > max_length:
        limit = low + max_length
        stop = limit
        for mark in marks:
            places = [found.end() for found in mark.finditer(text, low + 1, limit + 1)]
            places = [place for place in places if low + max_length // 3 <= place <= limit]
            if places:
                stop = places[-1]
                break
        first, last = trim(text, low, stop)
        if first < last:
            yield first, last
        low, _ = trim(text, stop, high)
    if low < high:
        yield low, high


_LINE_ENDS = (re.compile(r"\n"), re.compile(r"\s"))
_MARKS = (re.compile(r"\n[ \t]*\n"), re.compile(r"[.!?…。！？][\"'”’)\]]*(?=\s)|[。！？]"), *_LINE_ENDS)
