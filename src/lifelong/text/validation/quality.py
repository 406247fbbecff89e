"""Rules on prose: repetition, symbols, open code fences, garbled characters. None of them applies to code.

The ratios and their thresholds are those of Gopher's filters (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 and
table A1), and one of C4's (Raffel et al. 2020, arXiv:1910.10683, section 2.2). Where a rule of theirs is meant for web
pages in English (stop words, sentence ends, length), it is left out: manuals, notes and other languages would break it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from lifelong.text.mojibake import repair

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.uint64]

_FENCES = re.compile(r"`{3,}|~{3,}")
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])?")  # a fence may open a list item
# How lines begin that are no prose: indented code, tables, directives and fields of reStructuredText.
_NO_PROSE = ("    ", "\t", "|", "+-", ".. ", ":")
_SIGNS = string.punctuation + string.whitespace
REPEAT_WORDS = 150  # in a shorter text, a few mentions of one thing are a fifth of it
MIN_WORDS = 50  # Gopher's lower bound on a document: below it, ratios say little

# Gopher, table A1: shares of characters.
_DUPLICATE_LINES = 0.20
_DUPLICATE_PARAGRAPHS = 0.20
_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
# Twice Gopher's: at theirs, one page in ten of Python's manual, which describes one function like another, is called
# repetitive; at these, one in fifty.
_DUPLICATE_NGRAMS = {5: 0.30, 6: 0.28, 7: 0.26, 8: 0.24, 9: 0.22, 10: 0.20}
# Gopher, A.1.1.
_SYMBOLS_PER_WORD = 0.1
_BULLET_LINES = 0.9
_ELLIPSIS_LINES = 0.3
_FEWEST_LINES = 10  # of which a share is one
_WORDS_WITH_LETTERS = 0.8
_MEAN_WORD_LENGTH = 10
_BULLETS = "-*•‣–·"
_BULLET = re.compile(r"^[ \t]*[-*•‣–·]", re.MULTILINE)
_ELLIPSIS = re.compile(r"(?:\.\.\.|…)[ \t]*$", re.MULTILINE)
# Within a word: a manual on encodings also shows the character alone.
_LOST = re.compile(r"(?<=[^\W\d_])\ufffd|\ufffd(?=[^\W\d_])")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_LOOK_FOR_MOJIBAKE = 20_000  # characters of lines that are not ASCII: ftfy reads 3.5 MB/s
# A document is looked at up to here: a ratio over more text than this does not change much.
_LOOK_AT = 200_000


class _Fence(NamedTuple):
    """A line that opens or closes fenced code: where it begins and ends, where its mark stands, and what follows it."""

    start: int
    end: int
    at: int
    mark: str
    rest: str


def _fences(text: str) -> Iterator[_Fence]:
    # Line by line, by plain searches: a pattern for the whole line takes quadratic time on a long one.
    match = _FENCES.search(text)
    while match:
        at = match.start()
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        end = len(text) if end < 0 else end
        if _ITEM.fullmatch(text[start:at].strip(" \t>")):
            yield _Fence(start, end, at, match[0], text[match.end() : end])
        match = _FENCES.search(text, end)


def _fenced(text: str) -> Iterator[tuple[_Fence, _Fence | None]]:
    """Yield the fences of each block of code: the one that opens it, and the one that closes it, if any."""
    opened: _Fence | None = None
    for fence in _fences(text):
        if opened is None:
            if fence.mark[0] == "~" or "`" not in fence.rest:  # else it is code in a line
                opened = fence
        elif fence.mark.startswith(opened.mark) and not fence.rest.strip():
            yield opened, fence
            opened = None
    if opened is not None:
        yield opened, None


def open_fence(text: str) -> int | None:
    """Return the offset of the code fence that is still open at the end of a Markdown text, or None.

    Fences may be indented by any amount and stand in quotes and lists: stricter reading would find more of them open
    than a reader of the text does.
    """
    return next((opened.at for opened, closed in _fenced(text) if closed is None), None)


def without_fences(text: str) -> str:
    """Return a Markdown text without its fenced code."""
    kept, after = [], 0
    for opened, closed in _fenced(text):
        kept.append(text[after : opened.start])
        after = closed.end if closed else len(text)
    return "".join([*kept, text[after:]]) if kept else text


def prose_of(text: str) -> str:
    """Return the part of a text that is meant to be prose: no code, tables, rules, or marks of headings.

    A table and an indented example are neither repetitive nor full of symbols; they are tables and examples.
    """
    return "\n".join(
        [
            line.lstrip("#")
            for line in without_fences(text[:_LOOK_AT]).split("\n")
            if not line or (line.strip(_SIGNS) and not line.startswith(_NO_PROSE) and line.count("|") < 2)
        ]
    )


def prose_problems(text: str, *, symbols: bool = True) -> Iterator[tuple[str, str]]:
    """Yield the rule and the details of what is unlike prose in a text; texts under 50 words are not judged.

    Args:
        text: what `prose_of` returns.
        symbols: whether symbols and lists are counted too.
    """
    words = text.split()
    if len(words) < MIN_WORDS:
        return
    counts = Counter(words)
    if len(words) >= REPEAT_WORDS and (problem := repeated_blocks(text) or repeated_words(words, counts)):
        yield "repetition", problem
    if symbols and (problem := symbol_ratios(words, counts, text)):
        yield "symbols", problem


def symbol_ratios(words: list[str], counts: Counter[str], text: str) -> str | None:
    """Return which of Gopher's ratios of symbols, lists and words is out of bounds, or None."""
    hashes, dots = text.count("#"), text.count("...") + text.count("…")
    if hashes + dots > _SYMBOLS_PER_WORD * len(words):
        return f"{(hashes + dots) / len(words):.2f} hash signs and ellipses per word (at most {_SYMBOLS_PER_WORD})"
    lines = text.count("\n") - text.count("\n\n") + 1
    many = lines >= _FEWEST_LINES
    if many and sum(map(text.count, _BULLETS)) > _BULLET_LINES * lines:  # else no line needs a look
        bullets = len(_BULLET.findall(text))
        if bullets > _BULLET_LINES * lines:
            return f"{bullets / lines:.0%} of the lines are list items (at most {_BULLET_LINES:.0%})"
    if many and dots > _ELLIPSIS_LINES * lines:
        trailing = len(_ELLIPSIS.findall(text))
        if trailing > _ELLIPSIS_LINES * lines:
            return f"{trailing / lines:.0%} of the lines end in an ellipsis (at most {_ELLIPSIS_LINES:.0%})"
    lettered = sum(count for word, count in counts.items() if word[0].isalpha() or _has_letter(word))
    if lettered < _WORDS_WITH_LETTERS * len(words):
        return f"{lettered / len(words):.0%} of the words hold a letter (at least {_WORDS_WITH_LETTERS:.0%})"
    mean = sum(map(len, words)) / len(words)
    if mean > _MEAN_WORD_LENGTH and text.isascii():  # not every script writes spaces between words
        return f"words of {mean:.1f} characters on average (at most {_MEAN_WORD_LENGTH})"
    return None


def _has_letter(word: str) -> bool:
    return any(map(str.isalpha, word))


def repeated_blocks(text: str) -> str | None:
    """Return how much of a text is lines or paragraphs that stood there before, where that is too much."""
    for separator, most, name in (
        ("\n", _DUPLICATE_LINES, "lines"),
        ("\n\n", _DUPLICATE_PARAGRAPHS, "paragraphs"),
    ):
        blocks = text.split(separator)
        once = set(blocks)
        if len(once) == len(blocks):
            continue
        total = sum(map(len, blocks))
        repeated = total - sum(map(len, once))
        if repeated > most * total:
            line, count = Counter(block for block in blocks if block.strip()).most_common(1)[0]
            shown = line.strip()[:40]
            return f"{repeated / total:.0%} in repeated {name} (at most {most:.0%}), {count:,} times {shown!r}"
    return None


def repeated_words(words: list[str], counts: Counter[str]) -> str | None:
    """Return how much of a text is runs of words that stood there before, where that is too much.

    A word counts as repeated if a run of n words that covers it is not the first of its kind.

    Args:
        words: of the text, in order.
        counts: how often each occurs.
    """
    import numpy as np

    total = sum(map(len, words))
    # A run of n words has at most n times the share of the most frequent word: nearly every text is done with here.
    often_each = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
    likeliest = int((often_each * np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))).max()) / total
    longest = [n for n, most in _TOP_NGRAM.items() if n * likeliest > most]
    ids = np.fromiter(map(hash, words), dtype=np.int64, count=len(words)).view(np.uint64)
    sizes = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    for n in longest:
        _, first, often = np.unique(_runs(ids, n), return_index=True, return_counts=True)
        top = int(often.argmax())
        start, count = int(first[top]), int(often[top])
        share = count * int(sizes[start : start + n].sum()) / total
        if count > 2 and share > _TOP_NGRAM[n]:
            run = " ".join(words[start : start + n])[:40]
            return f"{min(share, 1):.0%} is the words {run!r} (at most {_TOP_NGRAM[n]:.0%})"
    for n, most in _DUPLICATE_NGRAMS.items():
        runs = _runs(ids, n)
        _, first = np.unique(runs, return_index=True)
        if len(first) == len(runs):
            return None
        again = np.ones(len(runs), dtype=bool)
        again[first] = False
        covered = np.zeros(len(words) + 1, dtype=np.int64)
        covered[:-n][again] += 1
        covered[n:][again] -= 1
        share = float(sizes[np.cumsum(covered[:-1]) > 0].sum()) / total
        if share > most:
            return f"{share:.0%} in repeated runs of {n} words (at most {most:.0%})"
        if share <= min(_DUPLICATE_NGRAMS.values()):  # what a longer run covers, a shorter one covers too
            return None
    return None


def _runs(ids: Ids, n: int) -> Ids:
    """Return a hash of each run of n words: a polynomial in 64 bits. Different runs practically never share one."""
    import numpy as np

    count = len(ids) - n + 1
    runs = ids[:count].copy()
    for offset in range(1, n):
        runs *= np.uint64(0x9E3779B97F4A7C15)
        runs += ids[offset : offset + count]
    return runs


def garbled(text: str) -> tuple[int, str] | None:
    """Return the offset of the first line of mojibake, and how it should read; None where there is none.

    A line counts where it can be repaired, or where U+FFFD says that characters were lost before.
    """
    if text.isascii():
        return None
    if "\ufffd" in text and (lost := _LOST.search(text)):
        return lost.start(), "U+FFFD: characters were lost when the text was decoded"
    looked_at = 0
    match = _NOT_ASCII.search(text)
    while match and looked_at < _LOOK_FOR_MOJIBAKE:
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.start())
        line = text[start : end if end >= 0 else None][:_LOOK_FOR_MOJIBAKE]
        looked_at += len(line)
        if (fixed := repair(line)) != line:
            differs = next((i for i, (a, b) in enumerate(zip(line, fixed, strict=False)) if a != b), 0)
            shown = slice(max(0, differs - 20), differs + 30)
            return start + differs, f"{line[shown]!r} should be {fixed[shown]!r}"
        match = _NOT_ASCII.search(text, end) if end >= 0 else None
    return None
