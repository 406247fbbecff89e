"""Cutting a text into passages that know where they stood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal, get_args

from lifelong.errors import LifelongError, suggest
from lifelong.retrieve.lengths import Span, fit, trim
from lifelong.retrieve.structure import Block, Fences, Markup, Outline, blocks

Method = Literal["paragraph", "sentence", "chunk", "semantic", "regex"]
METHODS: tuple[str, ...] = get_args(Method)
MIN_LENGTH, MAX_LENGTH = 50, 1000  # characters
PATTERN_SECONDS = 2.0  # for one pattern on one text


class Chunk(str):
    """A passage: its text, and where it stood.

    Attributes:
        start: where it begins in the text it was cut from, in characters; ``text[start:end]`` is the chunk.
        end: where it ends.
        headings: titles of the headings above it, the outermost first; one that it holds itself is not among them.
        torn: whether it is a part of a block of code that alone is longer than a chunk may be.
    """

    __slots__ = ("end", "headings", "start", "torn")
    start: int
    end: int
    headings: tuple[str, ...]
    torn: bool

    @classmethod
    def cut(cls, text: str, span: Span, headings: tuple[str, ...] = (), *, torn: bool = False) -> Chunk:
        """Return the chunk that a span of a text is."""
        chunk = cls(text[span[0] : span[1]])
        chunk.start, chunk.end, chunk.headings, chunk.torn = span[0], span[1], headings, torn
        return chunk


class DocumentProcessor:
    """Splits texts into chunks."""

    methods: ClassVar[tuple[str, ...]] = METHODS

    @staticmethod
    def split_text(
        text: str,
        method: str = "paragraph",
        min_length: int = MIN_LENGTH,
        max_length: int = MAX_LENGTH,
        overlap: int | None = None,
        pattern: str | None = None,
        *,
        markup: Markup = "markdown",
    ) -> list[Chunk]:
        """Cut a text into chunks, in order; every character but white space (and separators of a regex) is in one.

        Args:
            text: the text.
            method: ``paragraph`` cuts at blank lines, ``sentence`` after sentences, ``chunk`` at fixed lengths,
                ``semantic`` at headings and then at the largest unit that fits, ``regex`` where ``pattern`` matches.
            min_length: a shorter chunk is joined to its neighbour, where both fit ``max_length`` and no heading
                stands between them; nothing is dropped. In characters.
            max_length: no chunk is longer. A longer one is cut between sentences, else lines, else words.
            overlap: characters that a chunk repeats of the one before it, for ``chunk``; a tenth of ``max_length`` by
                default.
            pattern: for ``regex``: what stands between two chunks, and is in neither.
            markup: how headings and fenced code are written: ``markdown``, ``asciidoc``, ``text`` (headings are
                underlined), ``unknown`` (Markdown where that is plausible), ``none`` (code is plain text). A fence is
                never cut unless it alone is longer than ``max_length``: then at line ends, and the chunks say so
                (``torn``).

        Raises:
            LifelongError: an argument does not fit, the pattern is not one or takes longer than `PATTERN_SECONDS`, or
                a package for the method is not installed.
        """
        _check(method, min_length, max_length, overlap, pattern)
        parts = list(blocks(text, markup=markup))
        outline = Outline.of(parts)
        fences = Fences(parts)
        if method == "chunk":
            step_back = max_length // 10 if overlap is None else overlap
            units = spans = _windows(text, parts, fences, max_length, step_back)
        else:
            if method == "regex":
                assert pattern is not None
                units = _between(text, pattern, fences)
            elif method == "semantic":
                units = _sections(text, parts, max_length, markup != "none")
            elif method == "sentence":
                units = _sentences(text, parts)
            else:
                units = ((part.start, part.end) for part in parts)
            spans = fit(text, units, min_length, max_length, fences, set(outline.starts))
        return [Chunk.cut(text, span, outline.above(span[0]), torn=_within(span, fences)) for span in spans]


def _check(method: str, min_length: int, max_length: int, overlap: int | None, pattern: str | None) -> None:
    if method not in METHODS:
        raise LifelongError(
            f"unknown method of splitting '{method}'.{suggest(method, METHODS)}",
            fix=f"There are: {', '.join(METHODS)}.",
        )
    if max_length < 1 or not 0 <= min_length <= max_length:
        raise LifelongError(
            f"min_length {min_length} and max_length {max_length} do not fit together",
            fix="Give 0 <= min_length <= max_length, in characters.",
        )
    if overlap is not None and method != "chunk":
        raise LifelongError("only the method 'chunk' has an overlap", where="overlap", fix="Leave it out.")
    if overlap is not None and not 0 <= overlap < max_length:
        raise LifelongError(f"the overlap {overlap} is not less than max_length {max_length}", where="overlap")
    if (pattern is not None) is not (method == "regex"):
        raise LifelongError("a pattern goes with the method 'regex', and that needs one", where="pattern")


def _within(span: Span, fences: Fences) -> bool:
    return fences.around(span[0]) is not None or fences.around(span[1]) is not None


# Units: what a method would cut into, before lengths are looked at.


def _between(text: str, pattern: str, fences: Fences) -> Iterator[Span]:
    import regex

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise LifelongError(f"not a regular expression: {error}", where="pattern") from None
    start = 0
    try:
        for found in compiled.finditer(text, timeout=PATTERN_SECONDS):
            low, high = found.span()
            if fences.around(low) or fences.around(high) or fences.within(low, high):
                continue  # within code, a separator is code
            yield start, low
            start = high
    except TimeoutError:
        raise LifelongError(
            f"the pattern takes longer than {PATTERN_SECONDS:.0f} seconds on this text",
            where="pattern",
            fix="Repetitions within repetitions, such as (a+)+, can take forever; write it without them.",
        ) from None
    yield start, len(text)


def _sentences(text: str, parts: list[Block]) -> Iterator[Span]:
    for part in parts:
        if part.fenced or part.level:
            yield part.start, part.end
        else:
            yield from sentences(text, part.start, part.end)


def sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the sentences of a part of a text; white space behind one is part of it."""
    import sentencex

    low = start
    # A stretch at a time: the library's time grows faster than the text.
    while low < end:
        high = min(end, low + _STRETCH)
        if high < end:
            high = max(text.rfind("\n", low, high), text.rfind(" ", low, high), low + 1) + 1
        for found in sentencex.get_sentence_boundaries("en", text[low:high]):
            yield low + found["start_index"], low + found["end_index"]
        low = high


_STRETCH = 10_000


def _sections(text: str, parts: list[Block], max_length: int, markdown: bool) -> Iterator[Span]:
    """Yield sections under their headings; a longer one in stretches without code, and those in what fits."""
    section: list[Block] = []
    for part in parts:
        if part.level and section and not all(before.level for before in section):
            yield from _stretches(text, section, max_length, markdown)
            section = []
        section.append(part)
    if section:
        yield from _stretches(text, section, max_length, markdown)


def _stretches(text: str, section: list[Block], max_length: int, markdown: bool) -> Iterator[Span]:
    if section[-1].end - section[0].start <= max_length:
        yield section[0].start, section[-1].end
        return
    splitter = _splitter(max_length, markdown)
    start: int | None = None
    end = 0
    for part in section:
        if start is not None and (part.fenced or part.end - start > max_length):
            yield start, end
            start = None
        if part.fenced:
            yield part.start, part.end
        elif part.end - part.start > max_length:
            for low, chunk in splitter(text[part.start : part.end]):
                yield part.start + low, part.start + low + len(chunk)
        else:
            start = part.start if start is None else start
            end = part.end
    if start is not None:
        yield start, end


def _splitter(max_length: int, markdown: bool) -> Callable[[str], Iterable[tuple[int, str]]]:
    """Return what cuts one paragraph that is too long at the largest unit that fits."""
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    return (MarkdownSplitter if markdown else TextSplitter)(max_length).chunk_indices


def _windows(text: str, parts: list[Block], fences: Fences, max_length: int, overlap: int) -> Iterator[Span]:
    """Yield fixed-length windows that end between words and outside of code."""
    if not parts:
        return
    begin, last, done = parts[0].start, parts[-1].end, 0
    while begin < last:
        end = min(begin + max_length, last)
        if end < last:
            fence = fences.around(end)
            end = fence[0] if fence and fence[0] > begin else _word_end(text, begin, end)
        span = trim(text, begin, end)
        if span[0] < span[1] > done:  # not within the one before
            yield span
            done = span[1]
        if end >= last:
            return
        start = min(max(end - overlap, span[0] + 1), end) if overlap else end
        if overlap:
            start = _word_start(text, start, end)
            fence = fences.around(start)
            start = fence[0] if fence and fence[0] > span[0] else start
        begin = start


def _word_end(text: str, low: int, high: int) -> int:
    if text[high].isspace():
        return high
    for place in range(high - 1, low + (high - low) // 2, -1):
        if text[place].isspace():
            return place
    return high


def _word_start(text: str, start: int, end: int) -> int:
    for place in range(start, end):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return end if end > start else start
