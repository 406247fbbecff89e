"""What every reader yields and every later room takes: documents, and the sources they come from."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError, suggest

ROLES = ("system", "user", "assistant")
# What a document can be.
DOCUMENT_KINDS = ("text", "markdown", "code", "chat")
# How a file holds its text. Files of rows carry a row format besides.
TEXT_KINDS = ("text", "markdown", "code", "roam", "primer", "html", "pdf", "ipynb")
ROW_CONTAINERS = ("json", "jsonl", "csv", "tsv", "parquet")
# What a row means.
ROW_FORMATS = ("documents", "chat", "qa", "alpaca", "sharegpt", "completion")
SOURCE_KINDS = (*TEXT_KINDS, *ROW_FORMATS, *ROW_CONTAINERS)
_OTHER_NAMES = {"doc": "documents"}
PRIMER_DELIMITER = "\n\n<dialogue>\n\n"
HUB_PREFIX = "hf:"

_SPEC = re.compile(r"(?P<path>.+?)(?::(?P<kind>[A-Za-z_]+))?(?:@(?P<weight>[^@/\\]+))?")

# The Jaccard similarity from which on two documents are near duplicates: finds 99% of 4 kB copies with one word in
# twenty replaced, and nothing else (benchmarks/near_duplicates.py).
SIMILAR = 0.8


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
        line: the line of a row in a file of rows, counted from 1; below 0: minus the number of an item of an array
            that shares its line with others (`spell_place`).
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
        """``file``, ``file:line`` or ``file, item 3``, as messages name it."""
        return spell_place(self.source, self.line)

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


def spell_place(source: str | Path, line: int | None) -> str:
    """Return a row's place in words; ``line`` is that of `Document`, None or 0 for a file that is no rows."""
    if not line:
        return str(source)
    return f"{source}:{line}" if line > 0 else f"{source}, item {-line}"


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
    """A place documents come from: a file, a glob, a folder (read recursively), or a data set of the hub.

    Args:
        path: the file, glob pattern or folder; or ``hf:NAME[:CONFIG]``.
        kind: how files hold their text (``text``, ``markdown``, ``code``, ``roam``, ``primer``, ``html``, ``pdf``,
            ``ipynb``; ``json``, ``jsonl``, ``csv``, ``tsv``, ``parquet``), or what their rows mean (``documents``,
            ``chat``, ``qa``, ``alpaca``, ``sharegpt``, ``completion``); by default suffix and keys decide.
        format: what rows mean, where ``kind`` names the file (``DataSource("qa.json", "json", format="qa")``);
            without ``kind``, another name for it.
        weight: how often its tokens are seen beside those of other sources.
        encoding: of text that is not UTF-8, as Python spells it: ``cp1252``, ``utf-16``.
        delimiter: what stands between the dialogues of a primer; by default a line ``<dialogue>`` between blank lines.
        max_bytes: no further document is read once this many bytes of text (UTF-8) have come from this source.

    Raises:
        LifelongError: a kind or encoding is unknown (the nearest is named), kind and format contradict each other, or
            the weight is not a positive number.
    """

    path: str | Path
    kind: str | None = None
    format: str | None = None
    weight: float = 1.0
    encoding: str | None = None
    delimiter: str = PRIMER_DELIMITER
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        where = str(self.path)
        try:
            Path(self.path).expanduser()
        except RuntimeError:
            raise LifelongError("there is no such user", where=where, fix="Write ~/ for your own folder.") from None
        self.kind, self.format = (_known(value, where) for value in (self.kind, self.format))
        if self.kind in (None, self.format):
            self.kind, self.format = self.format, None
        elif self.format is not None:
            if self.format in ROW_CONTAINERS:  # either order is understood
                self.kind, self.format = self.format, self.kind
            if self.kind not in ROW_CONTAINERS or self.format not in ROW_FORMATS:
                raise LifelongError(
                    f"kind '{self.kind}' and format '{self.format}' contradict each other",
                    where=where,
                    fix=f"A format ({', '.join(ROW_FORMATS)}) goes with one of {', '.join(ROW_CONTAINERS)}.",
                )
        self.weight = _weight(self.weight, where)
        self._check_reading(where)

    def _check_reading(self, where: str) -> None:
        if not self.delimiter:
            raise LifelongError(
                "the delimiter is empty", where=where, fix="Leave it out, or give the text between two."
            )
        if self.max_bytes is not None and (type(self.max_bytes) is not int or self.max_bytes <= 0):
            raise LifelongError(f"max_bytes {self.max_bytes!r} is not a positive whole number", where=where)
        if self.encoding is not None:
            try:
                "a".encode(self.encoding).decode(self.encoding)
                codecs.getincrementaldecoder(self.encoding)
            except (LookupError, TypeError, ValueError):
                raise LifelongError(
                    f"unknown encoding {self.encoding!r}",
                    where=where,
                    fix="For example: utf-8, cp1252, utf-16, shift_jis.",
                ) from None

    @property
    def container(self) -> str | None:
        """How the files hold their text or rows, where that was said."""
        return self.kind if self.kind not in ROW_FORMATS else None

    @property
    def row_format(self) -> str | None:
        """What the rows mean, where that was said."""
        return self.kind if self.kind in ROW_FORMATS else self.format

    @property
    def is_hub(self) -> bool:
        """Whether this is a data set of the hub."""
        return isinstance(self.path, str) and self.path.startswith(HUB_PREFIX)

    @classmethod
    def parse(cls, spec: str | Path | DataSource) -> DataSource:
        """Read ``PATH[:KIND][@WEIGHT]`` or ``hf:NAME[:CONFIG][:KIND][@WEIGHT]``, as the command line takes it.

        A path that exists as it is written is taken whole, so names with ``:`` or ``@`` stay usable.

        Raises:
            LifelongError: as in the constructor.
        """
        if isinstance(spec, DataSource):
            return spec
        text = str(spec)
        match = _SPEC.fullmatch(text)
        if isinstance(spec, Path) or match is None or _exists(text):
            return cls(spec)
        path, kind, weight = match["path"], match["kind"], match["weight"]
        if text.startswith(HUB_PREFIX):  # a colon leads to a configuration, unless it names a kind
            if kind and _OTHER_NAMES.get(kind, kind) not in SOURCE_KINDS:
                path, kind = f"{path}:{kind}", None
            return cls(path, kind, weight=_weight(weight or 1.0, path))
        # A colon or an @ that leads to no kind and no number is part of the name, unless what stands before it exists.
        known = kind is None or _OTHER_NAMES.get(kind, kind) in SOURCE_KINDS
        if not known and not _exists(path):
            path, kind = f"{path}:{kind}", None
        if weight is None or (_number(weight) is None and not _exists(path)):
            path, weight = path + (f"@{weight}" if weight else ""), "1"
        return cls(path, kind, weight=_weight(weight, path))


def _known(kind: str | None, where: str) -> str | None:
    if kind is None or kind in SOURCE_KINDS:
        return kind
    if kind in _OTHER_NAMES:
        return _OTHER_NAMES[kind]
    raise LifelongError(
        f"unknown kind of source '{kind}'.{suggest(str(kind), SOURCE_KINDS)}",
        where=where,
        fix=f"Known kinds: {', '.join(SOURCE_KINDS)}.",
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a name too long to be one; a user who is none
        return False


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
