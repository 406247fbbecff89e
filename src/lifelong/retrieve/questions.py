"""Questions with what answers them: rows of JSON or CSV, or queries with relevance judgements (qrels)."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError

_QUESTION = ("question", "query", "text")
_SOURCE = ("source", "corpus_id", "document")
_HELP = (
    'Each row has "question" and "references", a list of {"source", "start", "end"} in characters; or "relevant", a '
    "list of sources. Queries for --qrels have an id and a text."
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what is relevant to it.

    Attributes:
        text: the question.
        place: ``file:row``.
        spans: characters of sources that answer it: (source, start, end).
        grades: sources that are relevant as a whole, and how much.
    """

    text: str
    place: str
    spans: tuple[tuple[str, int, int], ...] = ()
    grades: Mapping[str, float] = field(default_factory=dict)


def read_questions(path: Path, qrels: Path | None = None) -> list[Question]:
    """Read questions with their answers.

    Args:
        path: a ``.jsonl``, ``.json`` (a list) or ``.csv`` file of rows with ``question`` and ``references`` (each
            ``source``, ``start``, ``end``; chunking_evaluation's names are understood) or ``relevant`` (a list of
            sources, or a mapping to grades). With ``qrels``: rows, or ``id<TAB>text`` lines, with ``id`` and text.
        qrels: judgements as TREC (``id 0 source grade``) or BEIR (``id source grade``, with a first line of names)
            writes them.

    Raises:
        LifelongError: a file cannot be read or a row lacks something; names file and row.
    """
    rows = list(_rows(path))
    if not rows:
        raise LifelongError("there is no question", where=str(path), fix=_HELP)
    if qrels is None:
        return [_question(row, place) for row, place in rows]
    judged = _read_qrels(qrels)
    questions = []
    for row, place in rows:
        name = str(row.get("_id", row.get("id", "")))
        if name in judged:
            questions.append(Question(_text(row, place), place, grades=judged[name]))
    if not questions:
        raise LifelongError("no question has the id of a judgement", where=str(qrels), fix=_HELP)
    return questions


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LifelongError(f"cannot read the questions: {error}", where=str(path)) from None
    suffix = path.suffix.lower()
    if suffix == ".csv":
        csv.field_size_limit(min(sys.maxsize, 1 << 30))
        for number, row in enumerate(csv.DictReader(text.splitlines(keepends=True)), start=2):
            yield dict(row), f"{path}, row {number}"
    elif suffix in (".tsv", ".txt"):
        for number, line in enumerate(text.splitlines(), start=1):
            name, _, rest = line.partition("\t")
            if line.strip():
                yield {"id": name, "question": rest}, f"{path}:{number}"
    elif suffix == ".json":
        listed = _parse(text, str(path))
        if not isinstance(listed, list):
            raise LifelongError("not a list of questions", where=str(path), fix=_HELP)
        for number, row in enumerate(listed, start=1):
            yield _mapping(row, f"{path}, row {number}"), f"{path}, row {number}"
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _mapping(_parse(line, f"{path}:{number}"), f"{path}:{number}"), f"{path}:{number}"


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LifelongError(f"not valid JSON: {error}", where=where, fix=_HELP) from None


def _mapping(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise LifelongError("the row is no mapping", where=where, fix=_HELP)
    return row


def _text(row: Mapping[str, Any], place: str) -> str:
    found = next((row[name] for name in _QUESTION if isinstance(row.get(name), str) and row[name].strip()), None)
    if found is None:
        raise LifelongError("the row has no question", where=place, fix=_HELP)
    return str(found)


def _question(row: Mapping[str, Any], place: str) -> Question:
    text, own = _text(row, place), _source(row)
    relevant = row.get("relevant")
    if isinstance(relevant, list):
        return Question(text, place, grades={str(name): 1.0 for name in relevant})
    if isinstance(relevant, dict):
        return Question(text, place, grades={str(name): _number(grade, place) for name, grade in relevant.items()})
    listed = row.get("references", [row] if own and ("start" in row or "start_index" in row) else None)
    if isinstance(listed, str):
        listed = _parse(listed, place)
    if not isinstance(listed, list) or not listed:
        raise LifelongError("the row names nothing that answers its question", where=place, fix=_HELP)
    spans = []
    for item in listed:
        item = _mapping(item, place)
        source = _source(item) or own
        start, end = (item.get(name, item.get(f"{name}_index")) for name in ("start", "end"))
        if not source or start is None or end is None:
            raise LifelongError("a reference lacks its source, start or end", where=place, fix=_HELP)
        low, high = int(_number(start, place)), int(_number(end, place))
        if not 0 <= low < high:
            raise LifelongError(f"the span {low} to {high} holds nothing", where=place)
        spans.append((source, low, high))
    return Question(text, place, tuple(spans))


def _source(row: Mapping[str, Any]) -> str:
    return next((str(row[name]) for name in _SOURCE if row.get(name)), "")


def _number(value: Any, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise LifelongError(f"{value!r} is not a number", where=place) from None


def _read_qrels(path: Path) -> dict[str, dict[str, float]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LifelongError(f"cannot read the judgements: {error}", where=str(path)) from None
    judged: dict[str, dict[str, float]] = {}
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts or (number == 1 and "query-id" in parts):
            continue
        if len(parts) not in (3, 4):
            raise LifelongError(
                "not a judgement", where=f"{path}:{number}", fix="Write `id 0 source grade` or `id source grade`."
            )
        grade = _number(parts[-1], f"{path}:{number}")
        if grade > 0:
            judged.setdefault(parts[0], {})[parts[-2]] = grade
    return judged
