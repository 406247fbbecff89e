"""What every reader yields and every later room takes: documents, and the sources they come from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError, suggest

ROLES = ("system", "user", "assistant")
# What a document can be. `documents` is a kind of source (rows with "text"), never of a document.
DOCUMENT_KINDS = ("text", "markdown", "code", "chat")
SOURCE_KINDS = (*DOCUMENT_KINDS, "documents")

_SPEC = re.compile(r"(?P<path>.+?)(?::(?P<kind>[A-Za-z_]+))?(?:@(?P<weight>[^@/\\]+))?")


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its source, domain and weight: the unit of reading, splitting and deduplication.

    Attributes:
        text: the text; of a chat, the messages' contents joined by newlines (for hashing and counting).
        source: the file as it was given, for messages.
        name: the path below the source's root, the key it is split by.
        kind: ``text``, ``markdown``, ``code`` or ``chat``.
        domain: the body of knowledge it belongs to; empty where none was named.
        weight: how much more (or less) than others it counts in a mixture.
        messages: a chat's messages, each with ``role`` (system, user, assistant) and ``content``.
        line: the line of a row in a file of rows, counted from 1.
        meta: facts beside the text (front matter, title, ids of the source); never trained on.
    """

    text: str
    source: str
    name: str
    kind: str = "text"
    domain: str = ""
    weight: float = 1.0
    messages: tuple[dict[str, str], ...] | None = None
    line: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """``file`` or ``file:line``, as messages name it."""
        return self.source if self.line is None else f"{self.source}:{self.line}"

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8 bytes."""
        return len(self.text.encode("utf-8"))

    def row(self) -> dict[str, Any]:
        """Return the row that a prepared directory holds; `from_row` reads it back."""
        content: dict[str, Any] = {"messages": list(self.messages)} if self.messages else {"text": self.text}
        facts = {"source": self.source, "name": self.name, "kind": self.kind, "domain": self.domain}
        rest = {"line": self.line} if self.line else {}
        return {**content, **facts, "weight": self.weight, **rest} | ({"meta": self.meta} if self.meta else {})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Document:
        """Build from a row of `row`; raises KeyError where a field is missing."""
        messages = tuple(row["messages"]) if "messages" in row else None
        text = row["text"] if messages is None else join_messages(messages)
        facts = {key: row[key] for key in ("source", "name", "kind", "domain", "weight")}
        return cls(text=text, messages=messages, line=row.get("line"), meta=row.get("meta", {}), **facts)


class BadInput(LifelongError):
    """Something in a user's file that cannot be read.

    Args:
        rule: the short name under which `validate` counts it, such as ``bad-json``.
        fatal: nothing more of this file can be read; otherwise reading goes on with the next row.
    """

    def __init__(
        self, rule: str, what: str, *, where: str | None = None, fix: str | None = None, fatal: bool = False
    ) -> None:
        self.rule, self.fatal = rule, fatal
        super().__init__(what, where=where, fix=fix)


def join_messages(messages: tuple[dict[str, str], ...]) -> str:
    """Return the contents of a conversation joined by newlines."""
    return "\n".join(message["content"] for message in messages)


@dataclass(slots=True)
class DataSource:
    """A place documents come from: a file, a glob, or a folder (read recursively).

    Args:
        path: the file, glob pattern or folder.
        kind: ``text``, ``markdown``, ``code``, ``chat`` (rows with ``messages``) or ``documents`` (rows with
            ``text``); by default each file's suffix decides.
        format: another name for ``kind``.
        weight: how often its tokens are seen beside those of other sources.

    Raises:
        LifelongError: the kind is unknown (the nearest is named), or the weight is not a positive number.
    """

    path: str | Path
    kind: str | None = None
    format: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind and self.format and self.kind != self.format:
            raise LifelongError(
                f"kind '{self.kind}' and format '{self.format}' contradict each other", where=str(self.path)
            )
        self.kind = self.format = self.kind or self.format
        if self.kind is not None and self.kind not in SOURCE_KINDS:
            raise LifelongError(
                f"unknown kind of source '{self.kind}'.{suggest(self.kind, SOURCE_KINDS)}",
                where=str(self.path),
                fix=f"Known kinds: {', '.join(SOURCE_KINDS)}.",
            )
        self.weight = _weight(self.weight, str(self.path))

    @classmethod
    def parse(cls, spec: str | Path | DataSource) -> DataSource:
        """Read ``PATH[:KIND][@WEIGHT]``, as the command line takes it: ``docs/:markdown@2.0``.

        A path that exists as it is written is taken whole, so names with ``:`` or ``@`` stay usable.

        Raises:
            LifelongError: as in the constructor.
        """
        if isinstance(spec, DataSource):
            return spec
        text = str(spec)
        match = _SPEC.fullmatch(text)
        if isinstance(spec, Path) or match is None or Path(text).expanduser().exists():
            return cls(spec)
        path, kind, weight = match["path"], match["kind"], match["weight"]
        # A colon or an @ that leads to no kind and no number is part of the name, unless what stands before it exists.
        if kind and kind not in SOURCE_KINDS and not Path(path).expanduser().exists():
            path, kind = f"{path}:{kind}", None
        if weight is None or (_number(weight) is None and not Path(path).expanduser().exists()):
            path, weight = path + (f"@{weight}" if weight else ""), "1"
        return cls(path, kind, weight=_weight(weight, path))


def _number(text: str | float) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _weight(value: str | float, where: str) -> float:
    number = _number(value)
    if number is None or not math.isfinite(number) or number <= 0:
        raise LifelongError(f"weight '{value}' is not a positive number", where=where, fix="Write it like docs/@2.0.")
    return number
