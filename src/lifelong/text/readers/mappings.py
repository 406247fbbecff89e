"""What a row means: which keys make which format, and how each becomes a text or a conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lifelong.errors import suggest
from lifelong.text.document import BadInput, Document, spell_place
from lifelong.text.readers.facts import plain_facts
from lifelong.text.readers.meaning import ENDS, EXAMPLE, OUTPUTS, Reader, type_name
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

# Per format the keys a row must have: of each group one. In the order in which they are tried.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "chat": (("messages",),),
    "sharegpt": (("conversations", "conversation"),),
    "alpaca": (("instruction",), OUTPUTS),
    "qa": (("question",), ("answer",)),
    "completion": (("prompt",), ENDS),
    "documents": (("text", "content"),),
}
_OPTIONAL = {
    "alpaca": ("input", "context", "system"),
    "qa": ("context",),
    "documents": ("title",),
    "sharegpt": ("system",),
}
# Every key that some format reads, for tables whose headings are written in capitals.
KNOWN_KEYS = {key for groups in REQUIRED.values() for group in groups for key in group} | {
    key for keys in _OPTIONAL.values() for key in keys
}


class Rows:
    """Turns the rows of one file into documents, each by the format that its keys show (or the one that was given)."""

    def __init__(self, file: SourceFile, report: OnProblem) -> None:
        self.file, self.report = file, report
        self.last = file.row_format or ""
        self.keys: tuple[str, ...] | None = None  # of the last row: most rows of a file have the same

    def documents(self, rows: Iterator[tuple[int | None, Any]]) -> Iterator[Document]:
        """Yield a document a row; what is wrong with a row is reported, and costs that row only."""
        for number, (line, row) in enumerate(rows):
            if not number and self.file.found and not self.file.row_format and not is_row(row):
                raise BadInput("unknown-format", "rows of no known format", where=str(self.file.path), fatal=True)
            for part in squad_rows(row, self.file) if is_squad(row) else (row,):
                try:
                    yield self.document(line, part)
                except BadInput as problem:
                    self.report(problem)

    def document(self, line: int | None, row: Any) -> Document:
        """Return the document of one row, with every key that was not read as a fact beside it."""
        where = spell_place(self.file.path, line)
        if not isinstance(row, dict):
            raise BadInput("wrong-type", f"a row must be a JSON object, not {type_name(row)}", where=where, fix=EXAMPLE)
        if (keys := tuple(row)) != self.keys:
            self.last = self.file.row_format or detect(row) or self.last or _nearest(row)
            if problem := missing_key(REQUIRED[self.last], row, "row", where):
                raise problem
            self.keys = keys
        reader = Reader(row, where, self.file)
        meaning = reader.read(self.last)
        meta = meaning.meta
        if rest := {key: value for key, value in row.items() if key not in meaning.used}:
            try:
                meta = plain_facts(rest) | meta
            except ValueError:
                self.file.notes["facts beside the text too large to keep"] += 1
        file = self.file
        return Document(
            meaning.text, str(file.path), file.name, meaning.kind, "", file.weight, meaning.messages, line, meta
        )


def detect(keys: Mapping[str, Any]) -> str | None:
    """Return the format whose keys are all there, or None."""
    for name, groups in REQUIRED.items():
        if all(any(key in keys for key in group) for group in groups):
            return name
    return None


def is_row(row: Any) -> bool:
    """Whether a value has at least one key of a format: other files of JSON in a folder are settings, say."""
    return is_squad(row) or (
        isinstance(row, dict) and any(key in row for groups in REQUIRED.values() for group in groups for key in group)
    )


def _nearest(keys: Mapping[str, Any]) -> str:
    """Return the format of which at least one key is there, for the message about the others."""
    for name, groups in REQUIRED.items():
        if any(key in keys for group in groups for key in group):
            return name
    return "documents"


def missing_key(groups: tuple[tuple[str, ...], ...], keys: Mapping[str, Any], what: str, where: str) -> BadInput | None:
    """Return the problem of the first group of which no key is there, or None."""
    for group in groups:
        if not any(key in keys for key in group):
            wanted = group[0] if "content" not in group else "text"
            near = next((hint for key in keys if (hint := suggest(str(key), [wanted]))), "")
            given = ", ".join(str(key)[:40] for key in list(keys)[:12]) or "none"
            typo = f" Is '{next(k for k in keys if suggest(str(k), [wanted]))}' meant?" if near else ""
            return BadInput(
                "missing-key", f"the {what} has no '{wanted}' (its keys: {given}){typo}", where=where, fix=EXAMPLE
            )
    return None


def is_squad(row: Any) -> bool:
    """Whether an object holds a data set in SQuAD's form: articles with paragraphs with questions."""
    data = row.get("data") if isinstance(row, dict) else None
    return (
        isinstance(data, list) and bool(data) and all(isinstance(item, dict) and "paragraphs" in item for item in data)
    )


def squad_rows(row: dict[str, Any], file: SourceFile) -> Iterator[Any]:
    """Yield a question/answer row for every question; one that the paragraph does not answer is counted."""
    for article in row["data"]:
        for paragraph in article["paragraphs"] if isinstance(article["paragraphs"], list) else ():
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            for asked in questions if isinstance(questions, list) else ():
                answers = asked.get("answers") if isinstance(asked, dict) else None
                if not isinstance(answers, list) or not answers or not isinstance(answers[0], dict):
                    file.notes["questions without an answer left out"] += 1
                    continue
                facts = {"title": article["title"]} if "title" in article else {}
                facts |= {"id": asked["id"]} if "id" in asked else {}
                yield {
                    "context": paragraph.get("context"),
                    "question": asked.get("question"),
                    "answer": answers[0].get("text"),
                    **facts,
                }


def with_split(document: Document, split: str | None) -> Document:
    """Return the document with the split that its data set gives it, where it gives one."""
    return document if split is None else dataclasses.replace(document, meta=document.meta | {"split": split})
