"""Rules on prose: repetition, symbols, open code fences, garbled characters. None of them applies to code.

The ratios and their thresholds are those of Gopher's filters (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 and
table A1), and one of C4's (Raffel et al. 2020, arXiv:1910.10683, section 2.2). Where a rule of theirs is meant for web
pages in English (stop words, sentence ends, length), it is left out: manuals, notes and other languages would break it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

FENCE = re.compile(r"^[ \t>]*(?:[-*+] |\d+[.)] )?[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)
MIN_WORDS = 50  # Gopher's lower bound on a document: below it, ratios say little

# Gopher, table A1: shares of characters.
_DUPLICATE_LINES = 0.20
_DUPLICATE_PARAGRAPHS = 0.20
_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
_DUPLICATE_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
# Gopher, A.1.1.
_SYMBOLS_PER_WORD = 0.1
_BULLET_LINES = 0.9
_ELLIPSIS_LINES = 0.3
_WORDS_WITH_LETTERS = 0.8
_MEAN_WORD_LENGTH = 10
_BULLETS = ("-", "*", "•", "‣", "–", "·")
# A document is looked at up to here: a ratio over more text than this does not change much.
_LOOK_AT = 200_000


def open_fence(text: str) -> int | None:
    """Return the offset of the code fence that is still open at the end of a Markdown text, or None.

    Fences may be indented by any amount and stand in quotes and lists: stricter reading would find more of them open
    than a reader of the text does.
    """
    if "```" not in text and "~~~" not in text:
        return None
    opened: str = ""
    at = 0
    for match in FENCE.finditer(text):
        mark, rest = match[1], match[2]
        if not opened:
            if mark[0] == "~" or "`" not in rest:  # an info string holds no backtick: this is code in a line
                opened, at = mark, match.start(1)
        elif mark.startswith(opened) and not rest.strip():
            opened = ""
    return at if opened else None


def without_fences(text: str) -> str:
    """Return a Markdown text without its fenced code."""
    if "```" not in text and "~~~" not in text:
        return text
    kept: list[str] = []
    opened, start = "", 0
    for match in FENCE.finditer(text):
        mark, rest = match[1], match[2]
        if not opened:
            if mark[0] == "~" or "`" not in rest:
                opened = mark
                kept.append(text[start : match.start()])
        elif mark.startswith(opened) and not rest.strip():
            opened, start = "", match.end()
    if not opened:
        kept.append(text[start:])
    return "".join(kept)


def prose_problems(text: str) -> Iterator[tuple[str, str]]:
    """Yield the rule and the details of what is unlike prose in a text; texts under 50 words are not judged."""
    text = text[:_LOOK_AT]
    words = text.split()
    if len(words) < MIN_WORDS:
        return
    lines = [line for line in (line.strip() for line in text.split("\n")) if line]
    if problem := repeated_blocks(lines, text) or repeated_words(words):
        yield "repetition", problem
    if problem := symbol_ratios(words, lines, text):
        yield "symbols", problem


def symbol_ratios(words: list[str], lines: list[str], text: str) -> str | None:
    """Return which of Gopher's ratios of symbols, lists and words is out of bounds, or None."""
    symbols = text.count("#") + text.count("...") + text.count("…")
    if symbols > _SYMBOLS_PER_WORD * len(words):
        return f"{symbols / len(words):.2f} hash signs and ellipses per word (at most {_SYMBOLS_PER_WORD})"
    bullets = sum(line.startswith(_BULLETS) for line in lines)
    if bullets > _BULLET_LINES * len(lines):
        return f"{bullets / len(lines):.0%} of the lines are list items (at most {_BULLET_LINES:.0%})"
    dots = sum(line.endswith(("...", "…")) for line in lines)
    if dots > _ELLIPSIS_LINES * len(lines):
        return f"{dots / len(lines):.0%} of the lines end in an ellipsis (at most {_ELLIPSIS_LINES:.0%})"
    lettered = sum(count for word, count in Counter(words).items() if word[0].isalpha() or _has_letter(word))
    if lettered < _WORDS_WITH_LETTERS * len(words):
        return f"{lettered / len(words):.0%} of the words hold a letter (at least {_WORDS_WITH_LETTERS:.0%})"
    mean = sum(map(len, words)) / len(words)
    if mean > _MEAN_WORD_LENGTH and text.isascii():  # not every script writes spaces between words
        return f"words of {mean:.1f} characters on average (at most {_MEAN_WORD_LENGTH})"
    return None


def _has_letter(word: str) -> bool:
    return any(map(str.isalpha, word))


def repeated_blocks(lines: list[str], text: str) -> str | None:
    """Return how much of a text is lines or paragraphs that stood there before, where that is too much."""
    for blocks, most, name in (
        (lines, _DUPLICATE_LINES, "lines"),
        ([block.strip() for block in text.split("\n\n")], _DUPLICATE_PARAGRAPHS, "paragraphs"),
    ):
        once = set(blocks)
        if len(once) == len(blocks):
            continue
        total = sum(map(len, blocks))
        repeated = total - sum(map(len, once))
        if repeated > most * total:
            line, count = Counter(block for block in blocks if block).most_common(1)[0]
            return f"{repeated / total:.0%} in repeated {name} (at most {most:.0%}), {count} times {line[:40]!r}"
    return None


def repeated_words(words: list[str]) -> str | None:
    """Return how much of a text is runs of words that stood there before, where that is too much.

    A word counts as repeated if a run of n words that covers it is not the first of its kind.
    """
    import numpy as np

    index: dict[str, int] = {}
    ids = np.array([index.setdefault(word, len(index)) for word in words], dtype=np.uint64)
    sizes = np.array(list(map(len, words)), dtype=np.int64)
    total = int(sizes.sum())
    ends = np.concatenate([[0], np.cumsum(sizes)])
    runs = ids
    for n in range(2, max(_DUPLICATE_NGRAMS) + 1):
        if len(words) <= n:
            return None
        # A polynomial hash in 64 bits, which wraps around: equal runs are equal, others practically never.
        runs = runs[:-1] * np.uint64(0x9E3779B97F4A7C15) + ids[n - 1 :]
        _, first, counts = np.unique(runs, return_index=True, return_counts=True)
        if n in _TOP_NGRAM:
            top = int(counts.argmax())
            start, count = int(first[top]), int(counts[top])
            share = count * int(ends[start + n] - ends[start]) / total
            if count > 2 and share > _TOP_NGRAM[n]:
                run = " ".join(words[start : start + n])[:40]
                return f"{share:.0%} is the words {run!r} (at most {_TOP_NGRAM[n]:.0%})"
        else:
            again = np.ones(len(runs), dtype=bool)
            again[first] = False
            covered = np.zeros(len(words) + 1, dtype=np.int64)
            starts = np.flatnonzero(again)
            covered[starts] += 1
            np.subtract.at(covered, starts + n, 1)
            share = float(sizes[np.cumsum(covered[:-1]) > 0].sum()) / total
            if share > _DUPLICATE_NGRAMS[n]:
                return f"{share:.0%} in repeated runs of {n} words (at most {_DUPLICATE_NGRAMS[n]:.0%})"
            if share <= min(_DUPLICATE_NGRAMS.values()):  # what a longer run covers, a shorter one covers too
                return None
    return None


def garbled(text: str) -> tuple[int, str] | None:
    """Return the offset of the first line of mojibake, and how it should read; None where there is none.

    A line counts where ftfy's heuristic calls it bad and ftfy can also repair it, or where U+FFFD says that characters
    were lost before. Only lines with characters outside ASCII are looked at: no rule of ftfy's matches others.
    """
    if text.isascii():
        return None
    if (lost := text.find("\ufffd")) >= 0:
        return lost, "U+FFFD: characters were lost when the text was decoded"
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    at = 0
    for line in text[:_LOOK_AT].split("\n"):
        if not line.isascii() and is_bad(line) and (fixed := fix_encoding(line)) != line:
            differs = next((i for i, (a, b) in enumerate(zip(line, fixed, strict=False)) if a != b), len(fixed))
            from_here = max(0, differs - 20)
            return at + differs, f"{line[from_here : differs + 30]!r} should be {fixed[from_here : differs + 27]!r}"
        at += len(line) + 1
    return None
