"""A passage of a document, and how it lies in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.retrieve.splitting import Chunk
from lifelong.retrieve.table import VECTOR, WORDS

if TYPE_CHECKING:
    import pyarrow as pa

    from lifelong.retrieve.embedding import Embedder

_PLACE = ("source", "name", "kind", "start", "end", "line", "last_line")
COLUMNS = (*_PLACE, "skip", WORDS)
_HEADING_BREAK = "\n"  # no title holds one


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with the place it came from, as it lies in a store.

    Attributes:
        text: the chunk.
        source: the file, as it was named; empty where none was.
        start: where it begins in the source's text, in characters.
        end: where it ends.
        line: the line of the file on which it begins, from 1; 0 where the text was taken out of another format.
        last_line: the line on which it ends.
        headings: titles of the headings above it.
        name: the document, as in a listing of its folder.
        kind: of the document: text, markdown, code, chat.
    """

    text: str
    source: str = ""
    start: int = 0
    end: int = 0
    line: int = 0
    last_line: int = 0
    headings: tuple[str, ...] = ()
    name: str = ""
    kind: str = "text"

    @classmethod
    def of(cls, item: str | Mapping[str, Any] | Passage, source: str) -> Passage:
        """Return what a caller calls a document as a passage; ``source`` is where it names none.

        Raises:
            LifelongError: it is no text.
        """
        if isinstance(item, Passage):
            return item
        if isinstance(item, Chunk):
            return Passage(str(item), source, item.start, item.end, headings=item.headings, name=source)
        if isinstance(item, str):
            return Passage(item, source, 0, len(item), name=source)
        if isinstance(item, Mapping) and isinstance(item.get("text"), str):
            named = str(item.get("source", source))
            return Passage(item["text"], named, 0, len(item["text"]), name=named)
        raise LifelongError(f"a document is a text, or a mapping with 'text', not {type(item).__name__}")

    @property
    def place(self) -> str:
        """``file:line-line``, or ``file[start:end]`` in characters of its text; how a source is cited."""
        if self.line:
            return f"{self.source}:{self.line}" + (f"-{self.last_line}" if self.last_line > self.line else "")
        return f"{self.source}[{self.start}:{self.end}]" if self.source else f"[{self.start}:{self.end}]"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, and how well it fits: BM25, cosine or reciprocal rank, by the mode of the search."""

    passage: Passage
    score: float

    @property
    def text(self) -> str:
        """The passage's text."""
        return self.passage.text

    def row(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        found = self.passage
        return {
            "score": self.score,
            "source": found.source,
            "start": found.start,
            "end": found.end,
            "line": found.line or None,
            "last_line": found.last_line or None,
            "headings": list(found.headings),
            "text": found.text,
        }


def _schema(dimension: int | None) -> pa.Schema:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("source", "name", "kind")]
    numbers = [(name, pa.int64()) for name in ("start", "end", "line", "last_line", "skip")]
    vector = [(VECTOR, pa.list_(pa.float32(), dimension))] if dimension else []
    return pa.schema([*texts, *numbers, (WORDS, pa.string()), *vector])


def rows_of(passages: Sequence[Passage], embedder: Embedder | None) -> pa.Table:
    """Return passages as rows; the headings stand before the text, so that they are found as well."""
    import pyarrow as pa

    above = [_HEADING_BREAK.join(item.headings) + "\n" if item.headings else "" for item in passages]
    words = [head + item.text for head, item in zip(above, passages, strict=True)]
    columns: dict[str, Any] = {name: [getattr(item, name) for item in passages] for name in _PLACE}
    columns |= {"skip": [len(head) for head in above], WORDS: words}
    schema = _schema(embedder.dimension if embedder else None)
    if embedder:
        vectors = embedder.encode(words)
        columns[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), embedder.dimension)
    try:
        return pa.table(columns, schema=schema)
    except UnicodeEncodeError:
        raise LifelongError("the text holds half of a surrogate pair, which is not Unicode text") from None


def read_passage(row: Mapping[str, Any]) -> Passage:
    """Return the passage that a row is."""
    skip, words = row["skip"], row[WORDS]
    return Passage(
        text=words[skip:],
        headings=tuple(words[: skip - 1].split(_HEADING_BREAK)) if skip else (),
        **{name: row[name] for name in _PLACE},
    )
