"""What cleaning touches, and what it must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.text.cleaning import clean
from lifelong.text.cutting import cut, fit
from lifelong.text.document import Document

_LITERAL = """\
| name  | value |
|-------|-------|
| a     | 1     |

$ ls  -l   | sort
>>> x  = 1
    indented  code   stays

=====  =====
a      b
=====  =====
Type of file    Installation directory
modules         lib/python

Use `git  log   -p` here.
x = 1  # a comment

```
def f( a,   b ):
    return  a
```
"""


def _clean(text: str, kind: str = "markdown") -> tuple[str, dict[str, int]]:
    document, changes = clean(Document(text, "a", "a", kind))
    return document.text, dict(changes)


def test_f28_tables_commands_and_code_stay_to_the_letter() -> None:
    assert _clean(_LITERAL) == (_LITERAL, {})


def test_f28_white_space_in_prose_is_folded_and_counted() -> None:
    text, changes = _clean("Too   many spaces.  And  so  on.   \n\n\n\n\nEnd, but `a  b` stays  here.\n")
    assert text == "Too many spaces. And so on.\n\n\nEnd, but `a  b` stays here.\n"
    assert changes == {"white space": 2, "blank lines": 2}


def test_mojibake_is_repaired_and_counted() -> None:
    broken = "The cafÃ© â€” closed".encode().decode()
    text, changes = _clean(f"{broken}\n\n```\n{broken}\n```\n`{broken}`\n")
    assert text.startswith("The café — closed\n")
    assert text.count(broken) == 2  # in the fence, and in the span of code
    assert changes == {"mojibake": 1}
    assert _clean(f"{broken}\n", "code") == (f"{broken}\n", {})
    for fine in ("L’été, naïve, 你好, 🙂 “quoted”\n", "[ÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ]\n"):
        assert _clean(fine) == (fine, {})


def test_messages_are_cleaned_too() -> None:
    messages = ({"role": "user", "content": "a  b\r\nc"}, {"role": "assistant", "content": "```\nx  y\n```"})
    document, changes = clean(Document("", "a", "a", "chat", messages=messages))
    assert document.messages is not None
    assert [message["content"] for message in document.messages] == ["a b\nc", "```\nx  y\n```"]
    assert document.text == "a b\nc\n```\nx  y\n```"
    assert changes == {"line ends": 1, "white space": 1}


def _words(text: str) -> int:
    return len(text.split())


@given(st.text(alphabet="ab.# `~\n", max_size=400), st.integers(1, 12))
def test_fitted_pieces_join_to_the_whole(text: str, limit: int) -> None:
    pieces = fit(Document(text, "a", "a", "markdown"), _words, limit)
    assert "".join(piece.text for piece in pieces) == text
    assert all(_words(piece.text) <= limit for piece in pieces)


@given(st.text(max_size=100), st.integers(1, 9))
def test_fitting_ends_whatever_the_measure(text: str, limit: int) -> None:
    pieces = fit(Document(text, "a", "a"), lambda part: len(part.encode("utf-8", "surrogatepass")), limit)
    assert "".join(piece.text for piece in pieces) == text
    assert all(len(piece.text.encode("utf-8", "surrogatepass")) <= max(limit, 4) for piece in pieces)


def test_prose_is_cut_at_headings_and_fences_stay_whole() -> None:
    text = "# One\n\n" + "word " * 30 + "\n\n```\n" + "code \n\n" * 10 + "```\n\n# Two\n\n" + "word " * 20 + "\n"
    pieces = [piece.text for piece in fit(Document(text, "a", "a", "markdown"), _words, 46)]
    assert pieces[-1].startswith("# Two\n")
    assert all(piece.count("```") % 2 == 0 for piece in pieces)


@pytest.mark.parametrize(("limit", "kept"), [(100, 4), (15, 4), (14, 2), (7, 2), (6, 0)])
def test_a_conversation_keeps_the_turns_that_fit(limit: int, kept: int) -> None:
    turns = [("user", "one two"), ("assistant", "three"), ("user", "four five"), ("assistant", "six seven")]
    messages = tuple({"role": role, "content": content} for role, content in turns)
    found = fit(Document("", "a", "a", "chat", messages=messages), _words, limit)
    assert [len(document.messages or ()) for document in found] == ([kept] if kept else [])


def test_a_paragraph_is_never_torn_by_cut() -> None:
    text = "\n\n".join("sentence " * 200 for _ in range(8))
    pieces = [piece.text for piece in cut(Document(text, "a", "a"))]
    assert "".join(pieces) == text
    assert all(piece.endswith("\n\n") for piece in pieces[:-1])
