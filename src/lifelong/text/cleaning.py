"""Make a text tidy without changing what it says, and tell equal texts apart from new ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter

from lifelong.text.document import Document, join_messages
from lifelong.text.mojibake import repair

_MANY_BLANK_LINES = 2
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_INLINE_CODE = re.compile(r"(`+[^`]+`+)")
_GAP = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)|(?<=\S)\t(?=\S)")
# Lines whose inner white space means something: indented, a table's row or rule, columns, code with a comment behind, a
# typed command.
_LITERAL = re.compile(
    r"""  [ ]{4} | [ ]*\t
        | .*\|
        | [ ]*([=~^"'*+#_.-])\1{2,}[ \t]
        | .*\S(?:[ ]{3,}|\t)\S.*\S(?:[ ]{3,}|\t)\S
        | .*\S[ ]{2,}(?:\#|//)[ ]
        | [ ]*(?:[$%>#]|>>>|\.\.\.|[\w.-]+@[\w.-]+:\S*[$\#])[ ]\S
    """,
    re.VERBOSE,
)

Changes = Counter[str]


def clean(document: Document) -> tuple[Document, Changes]:
    """Return the document tidied, and what was changed: how many lines for each reason.

    All text gets LF line ends. Text, Markdown and messages also lose trailing spaces, long runs of blank lines, and
    runs of spaces between words; mojibake (UTF-8 once read as something else) is repaired. Fenced and inline code,
    indentation, tables and command lines stay to the letter, and so does code.
    """
    changes: Changes = Counter()
    if document.messages:
        messages = tuple(
            {**message, "content": _clean_text(message["content"], "markdown", changes)}
            for message in document.messages
        )
        if not changes:
            return document, changes
        return dataclasses.replace(document, messages=messages, text=join_messages(messages)), changes
    text = _clean_text(document.text, document.kind, changes)
    if document.kind != "code" and text.strip():
        text = text.strip("\n") + "\n"
    return (document if text == document.text else dataclasses.replace(document, text=text)), changes


def _clean_text(text: str, kind: str, changes: Changes) -> str:
    if "\r" in text:
        changes["line ends"] += text.count("\r")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if kind == "code" else _tidy(text, changes, markdown=kind == "markdown")


def _tidy(text: str, changes: Changes, *, markdown: bool) -> str:
    kept: list[str] = []
    fence, blank = "", 0
    lines = text.split("\n")
    for number, line in enumerate(lines):
        mark = _FENCE.match(line) if markdown else None
        if fence:
            kept.append(line)
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
            continue
        if mark:
            fence = mark[1]
        tidy = line.rstrip()
        if not mark:
            tidy = _fold(tidy, lines[max(0, number - 1) : number + 2 : 2] if number else lines[1:2])
        if tidy != line:
            changes["white space"] += 1
        if not tidy.isascii():
            tidy = _repair(tidy, changes)
        blank = 0 if tidy else blank + 1
        if blank <= _MANY_BLANK_LINES:
            kept.append(tidy)
        else:
            changes["blank lines"] += 1
    return "\n".join(kept)


def _fold(line: str, neighbours: list[str]) -> str:
    """Make each run of spaces between words one space, but for lines and spans that are meant literally."""
    words = line.lstrip()  # most lines with two spaces have them only in front
    if not ("  " in words or "\t" in words) or not _GAP.search(words) or _LITERAL.match(line):
        return line
    ends = [gap.end() for gap in _GAP.finditer(line)]
    if any(other[end - 2 : end] == "  " and other[end : end + 1].strip() for end in ends for other in neighbours):
        return line  # a column, of which the line above or below has the next word
    parts = _INLINE_CODE.split(line) if "`" in line else [line]
    return "".join(part if index % 2 else _GAP.sub(" ", part) for index, part in enumerate(parts))


def _repair(line: str, changes: Changes) -> str:
    parts = _INLINE_CODE.split(line) if "`" in line else [line]
    repaired = "".join(part if index % 2 else repair(part) for index, part in enumerate(parts))
    if repaired != line:
        changes["mojibake"] += 1
    return repaired


def content_hash(document: Document) -> str:
    """Return a hash that is equal for documents whose text differs in white space only."""
    if document.messages:
        words = json.dumps([[m["role"], " ".join(m["content"].split())] for m in document.messages])
    else:
        words = " ".join(document.text.split())
    return hashlib.blake2b(words.encode("utf-8"), digest_size=16).hexdigest()
