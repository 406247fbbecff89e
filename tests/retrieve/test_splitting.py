"""Cutting texts into chunks: places are exact, nothing is lost, code stays whole, lengths hold."""

from __future__ import annotations

import argparse
import inspect
import itertools
import pydoc_data.topics as topics
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.retrieve.splitting import METHODS, DocumentProcessor
from lifelong.retrieve.structure import Fences, Markup, blocks, markup_of

_PLAIN_METHODS = [method for method in METHODS if method != "regex"]
_SENTENCE = st.sampled_from(
    ["It rains. ", "Dr. Smith left at 3.5 p.m.! ", "Ünïcode 😀 here? ", "日本語の文。", "word " * 40, "x" * 90 + " "]
)
_PIECE = st.one_of(
    st.lists(_SENTENCE, max_size=6).map("".join),
    st.sampled_from(
        [
            "# Title\n",
            "## Part ##\n\n",
            "Set\n===\n",
            "Sub\n---\n\n",
            "```py\ncode = 1\n\n# no title\n```\n",
            "~~~\n" + "line of code\n" * 12 + "~~~\n",
            "- item\n- item\n",
            "   \n\t\n",
            "\r\n\r\n",
        ]
    ),
)
_TEXT = st.lists(_PIECE, max_size=12).map("\n\n".join) | st.text(max_size=300)


_MARKUP = st.sampled_from(get_args(Markup))


@given(_TEXT, st.sampled_from(_PLAIN_METHODS), st.integers(1, 200), st.integers(0, 60), _MARKUP)
def test_places_are_exact_and_nothing_is_lost(
    text: str, method: str, longest: int, shortest: int, markup: Markup
) -> None:
    options: dict[str, Any] = {"min_length": min(shortest, longest), "max_length": longest, "markup": markup}
    chunks = DocumentProcessor.split_text(text, method, **options)
    covered: set[int] = set()
    before = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk
        assert chunk.strip() == chunk != ""
        assert len(chunk) <= longest
        assert method == "chunk" or chunk.start >= before
        before = chunk.end
        covered.update(range(chunk.start, chunk.end))
    assert all(place in covered for place, sign in enumerate(text) if not sign.isspace())
    assert [chunk.start for chunk in chunks] == sorted({chunk.start for chunk in chunks})


@given(_TEXT, st.sampled_from(METHODS), st.integers(20, 300))
def test_code_is_cut_only_where_it_alone_is_too_long(text: str, method: str, longest: int) -> None:
    pattern = r"\n\n|e" if method == "regex" else None
    chunks = DocumentProcessor.split_text(text, method, 0, longest, pattern=pattern)
    fences = Fences(list(blocks(text)))
    for chunk in chunks:
        for place in (chunk.start, chunk.end):
            fence = fences.around(place)
            assert fence is None or fence[1] - fence[0] > longest
            assert fence is None or chunk.torn


@given(_TEXT, st.integers(1, 100), st.data())
def test_fixed_lengths_repeat_what_was_asked_for_at_most(text: str, longest: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, longest - 1))
    chunks = DocumentProcessor.split_text(text, "chunk", 0, longest, overlap, markup="none")
    for one, two in itertools.pairwise(chunks):
        assert one.end - two.start <= overlap
        assert two.start > one.start


def test_each_method_cuts_where_it_says() -> None:
    text = "One. Two!\n\nThree is longer? Yes."
    split = DocumentProcessor.split_text
    assert split(text, min_length=0) == ["One. Two!", "Three is longer? Yes."]
    assert split(text, "sentence", 0) == ["One.", "Two!", "Three is longer?", "Yes."]
    assert split("a b c d e f", "chunk", 0, 5, 2) == ["a b c", "c d e", "e f"]
    assert split("a--b--c", "regex", 0, pattern="--") == ["a", "b", "c"]
    assert split("# A\n\nfoo\n\n## B\n\nbar", "semantic", 0) == ["# A\n\nfoo", "## B\n\nbar"]


def test_headings_stand_beside_the_chunks_below_them() -> None:
    text = "# Guide\n\n## Install\n\n" + "Take it. " * 30 + "\n\n### Windows\n\nClick.\n\n## Use\n\nRun."
    chunks = DocumentProcessor.split_text(text, "semantic", 0, 120)
    assert chunks[0].startswith("# Guide\n\n## Install") and chunks[0].headings == ()
    assert all(chunk.headings == ("Guide", "Install") for chunk in chunks[1:-2])
    assert [chunk.headings for chunk in chunks[-2:]] == [("Guide", "Install"), ("Guide",)]


def test_real_documentation_keeps_its_lengths() -> None:
    text = "\n\n".join(topics.topics.values())
    for method in _PLAIN_METHODS:
        sizes = sorted(map(len, DocumentProcessor.split_text(text, method, 50, 800)))
        assert sizes[-1] <= 800
        assert sum(size < 50 for size in sizes) < 0.05 * len(sizes)


def test_code_is_read_as_plain_text_where_that_is_said() -> None:
    source = inspect.getsource(argparse)
    assert any(chunk.headings for chunk in DocumentProcessor.split_text(source, "semantic"))
    chunks = DocumentProcessor.split_text(source, "semantic", markup="none")
    assert not any(chunk.headings for chunk in chunks)


def _titles(text: str, markup: Markup) -> list[tuple[int, str]]:
    return [(part.level, part.title) for part in blocks(text, markup=markup) if part.level]


_ASCIIDOC = """\
= The Guide

// a comment
== Install

Do this:

[source,sh]
----
# fetch it

== no title
make
----

# no title either

=== On Windows

git-add(1)
----------

Text ends here.
"""


def test_headings_of_asciidoc_are_its_own_and_comments_in_its_code_are_none() -> None:
    found = [(1, "The Guide"), (2, "Install"), (3, "On Windows"), (2, "git-add(1)")]
    assert _titles(_ASCIIDOC, "asciidoc") == found
    code = [part for part in blocks(_ASCIIDOC, markup="asciidoc") if part.fenced]
    assert [_ASCIIDOC[part.start : part.end].splitlines()[1] for part in code] == ["# fetch it"]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Run it:\n\n# fetch the sources\ngit clone x\n# build\nmake\n", []),
        ("# settings of the server\n# one a line\n\nport = 1\n", []),
        ("# Guide\n\nText.\n\n## Install\n\n```\n# no title\nmake\n```\n", [(1, "Guide"), (2, "Install")]),
        ("Guide\n=====\n\n# a comment\nx = 1\n", [(1, "Guide")]),
        ("[source]\n--\ncode\n--\n", []),
    ],
)
def test_a_text_of_unknown_kind_is_markdown_only_where_that_is_plausible(
    text: str, titles: list[tuple[int, str]]
) -> None:
    assert _titles(text, "unknown") == titles


@pytest.mark.parametrize(
    ("kind", "name", "markup"),
    [
        ("markdown", "a.md", "markdown"),
        ("code", "a.py", "none"),
        ("text", "a.adoc.gz", "asciidoc"),
        ("text", "a.rst", "text"),
        ("text", "a.txt", "unknown"),
        ("text", "rows.jsonl", "unknown"),
    ],
)
def test_the_suffix_says_how_headings_are_written(kind: str, name: str, markup: str) -> None:
    assert markup_of(kind, name) == markup


def test_short_chunks_are_joined_and_never_dropped() -> None:
    assert DocumentProcessor.split_text("a\n\nb\n\nc", min_length=5) == ["a\n\nb\n\nc"]
    assert DocumentProcessor.split_text("a", min_length=50) == ["a"]
    assert DocumentProcessor.split_text(" \n ") == []
    # Not across a heading: it begins something else.
    assert DocumentProcessor.split_text("a\n\n# B\n\nb", min_length=8, max_length=9) == ["a", "# B\n\nb"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "paragraf"}, "Did you mean 'paragraph'"),
        ({"min_length": 10, "max_length": 5}, "do not fit together"),
        ({"overlap": 5}, "only the method 'chunk'"),
        ({"method": "chunk", "max_length": 60, "overlap": 60}, "not less than max_length"),
        ({"method": "regex"}, "needs one"),
        ({"method": "regex", "pattern": "("}, "not a regular expression"),
        ({"pattern": "x"}, "needs one"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(LifelongError, match=named):
        DocumentProcessor.split_text("some text", **options)


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifelong.retrieve.splitting.PATTERN_SECONDS", 0.2)
    with pytest.raises(LifelongError, match="the pattern takes longer"):
        DocumentProcessor.split_text("a" * 60 + "b", "regex", pattern=r"(a|aa)+$")
