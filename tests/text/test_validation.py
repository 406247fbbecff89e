from __future__ import annotations

import dataclasses
import pydoc_data.topics as topics
import sys
import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from ftfy.badness import badness
from hypothesis import given
from hypothesis import strategies as st

from lifelong.text.document import DOCUMENT_KINDS, ROLES, BadInput, Document, join_messages
from lifelong.text.validation import Checker
from lifelong.text.validation.checker import percentiles, rounded
from lifelong.text.validation.places import snippet
from lifelong.text.validation.quality import garbled, open_fence, prose_of, repeated_words, without_fences
from lifelong.text.validation.rules import RULES
from lifelong.text.validation.secrets import find_secrets, mask, redact

MESSAGES = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(ROLES), st.text()),
    min_size=1,
    max_size=5,
)
# Text in which the rules find something to look at, mixed with any.
PIECES = st.sampled_from(
    [
        *("```", "~~~\n", "\n\n", "- x\n", "…", "# ", "Ã©", "\ufffd", "word word ", "| a | b |\n", "1.2.3.4"),
        *("a@b.example.org", "x@y.de", "+49 30 901820-47", "4539 1488 0343 6467", "GB33BUKB20201555555555"),
        *("://a:b3kdjw@c", "sk-" + "aB3" * 12),
    ]
)
TEXT = st.lists(PIECES | st.text(), max_size=30).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    messages = tuple(draw(MESSAGES)) if draw(st.booleans()) else None
    return Document(
        join_messages(messages) if messages else draw(TEXT),
        source=draw(st.sampled_from(["a.md", "b/c.txt", "hf:x/train"])),
        name=draw(st.sampled_from(["a.md", "c.txt", "c.txt#0002"])),
        kind="chat" if messages else draw(st.sampled_from(DOCUMENT_KINDS[:3])),
        messages=messages,
        line=draw(st.none() | st.integers(1, 9)),
        meta=draw(st.dictionaries(st.sampled_from(["id", "txt", "split"]), st.sampled_from(["train", "test", "x"]))),
    )


@given(st.lists(documents(), max_size=8), st.lists(st.sampled_from(["", "train", "gate", "test"]), max_size=8))
def test_any_list_of_documents_gives_a_report(found: list[Document], splits: list[str]) -> None:
    checker = Checker(languages=0)
    for document, split in zip(found, [*splits, *[""] * len(found)], strict=False):
        checker.see(document, split)
    report = checker.report()
    plain = report.to_dict()
    assert plain["facts"]["documents"] == len(found)
    assert plain["facts"]["bytes"] == sum(document.bytes for document in found)
    for finding in report.errors + report.warnings:
        assert finding.rule in RULES
        assert finding.count >= len(finding.examples) > 0
        assert sum(finding.by_kind.values()) in (0, finding.count)


def test_a_rule_only_the_reader_knows_keeps_its_own_words() -> None:
    checker = Checker(languages=0)
    checker.problem(BadInput("odd-rule", "nested too deeply", where="a.json:3", fix="Flatten it."))
    finding = checker.report().errors[0]
    assert (finding.rule, finding.title, finding.fix) == ("odd-rule", "odd-rule", "Flatten it.")
    assert finding.line() == "odd-rule: 1 (such as a.json:3: nested too deeply)"


@given(st.text())
def test_no_garbled_text_is_plain_ascii(text: str) -> None:
    # What lets `garbled` skip lines: ftfy calls nothing bad that is ASCII.
    assert badness(text.encode("ascii", "ignore").decode()) == 0
    if garbled(text.replace("\ufffd", "")) is not None:
        assert badness(text) > 0


@given(st.text(alphabet="`~ \nab>-", max_size=60))
def test_a_text_without_open_fences_stays_so_without_its_code(text: str) -> None:
    if open_fence(text) is None:
        assert open_fence(without_fences(text)) is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("a\n```\nb\n", 2),
        ("a\n```\nb\n```\n", None),
        ("````\n```\nb\n````\n", None),
        ("~~~\n```\n~~~\n", None),
        ("use ```x``` in a line\n", None),
        ("```x``` begins a line\n", None),
        ("- ```\n  b\n  ```\n", None),
        ("> ```\n> b\n> ```\n", None),
        ("1. text\n   ```sh\n   b\n", 11),
    ],
)
def test_fences(text: str, at: int | None) -> None:
    assert open_fence(text) == at


def _covered(words: list[str], n: int) -> float:
    """The share of characters in runs of n words that stood there before, word by word."""
    seen: set[tuple[str, ...]] = set()
    marked = set()
    for start in range(len(words) - n + 1):
        run = tuple(words[start : start + n])
        if run in seen:
            marked |= set(range(start, start + n))
        seen.add(run)
    return sum(len(words[i]) for i in marked) / sum(map(len, words))


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=60, max_size=200))
def test_repeated_runs_are_counted_as_by_hand(words: list[str]) -> None:
    half = words[: len(words) // 2]
    for text in (words, half + half):
        problem = repeated_words(text, Counter(text))
        shares = {n: _covered(text, n) for n in range(5, 11)}
        if problem is None:
            assert all(share <= 0.30 for share in shares.values())
        elif "runs of" in problem:
            n = int(problem.split("runs of ")[1].split()[0])
            assert problem.startswith(f"{shares[n]:.0%} ")


def test_prose_is_what_is_left_of_a_page() -> None:
    page = "# Title\n\nText.\n\n    code()\n\n| a | b |\n|---|---|\n\n```\nmore()\n```\n=====\nEnd.\n"
    assert prose_of(page).split() == ["Title", "Text.", "End."]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300))
def test_percentiles_are_those_of_numpy_but_for_rounding(lengths: list[int]) -> None:
    found = percentiles(Counter(map(rounded, lengths)))
    exact = np.percentile(lengths, [1, 5, 50, 95, 99, 100], method="inverted_cdf")
    assert list(found.values()) == [rounded(int(value)) for value in exact]
    assert all(value - rounded(value) <= 0.01 * value for value in lengths)


@given(TEXT)
def test_what_is_masked_is_gone(text: str) -> None:
    hidden = redact(text)
    for hit in find_secrets(text):
        value = text[hit.start : hit.end]
        assert len(value) < 8 or value not in mask(value)
    assert not [hit for hit in find_secrets(hidden) if hit.rule == "secret"]


def test_a_snippet_never_shows_half_of_a_secret() -> None:
    secret = "ghp_Zk3vN8qLw2XbT6yRmD9sHfJ4cPaGe7uW1oQi"
    for before in range(0, 80):
        text = "x" * before + " " + secret + " " + "y" * 500
        for at in (0, before, before + 10):
            assert secret[12:20] not in snippet(text, at)


@pytest.mark.parametrize(
    "unit", [" ", "> ", "`", "... ", "é", "Ã©", "1. ", "|", "- \n", "@", "+1 ", "sk-", "://a:", "1 "]
)
def test_no_text_takes_more_than_linear_time(unit: str) -> None:
    # A quadratic pattern would take minutes on these.
    text = "```\n" + unit * (150_000 // len(unit))
    start = time.process_time()
    checker = Checker(languages=0)
    checker.see(Document(text, "a.md", "a.md", "markdown"))
    checker.report()
    assert time.process_time() - start < 5


def test_memory_does_not_grow_with_the_length_of_documents() -> None:
    text = "\n".join(topics.topics.values())
    document = Document(text, "a.txt", "a.txt")

    def peak(count: int) -> int:
        checker = Checker(languages=0)
        tracemalloc.start()
        for number in range(count):
            checker.see(dataclasses.replace(document, text=f"{number} {text}", source=f"{number}.txt"))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return held

    peak(1)  # what is imported, and compiled, on first use
    assert peak(4) - peak(2) < sys.getsizeof(text) / 4


def test_a_checker_tells_the_sources_apart() -> None:
    checker = Checker(languages=0)
    for number, source in enumerate(["x/a.txt", "x/b.txt", "y/a.txt"]):
        checker.see(Document(f"text {number}", source, "a.txt"))
    facts: dict[str, Any] = checker.report().facts
    assert {name: counts["documents"] for name, counts in facts["sources"].items()} == {"x": 2, "y": 1}
