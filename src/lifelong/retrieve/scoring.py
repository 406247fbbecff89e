"""Measuring a store: how well it finds what answers questions."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePath

from lifelong.errors import LifelongError
from lifelong.retrieve.measures import covered, ndcg, recall, reciprocal_rank
from lifelong.retrieve.passages import Hit
from lifelong.retrieve.questions import Question
from lifelong.retrieve.store import SimpleDocumentStore

_PER_SOURCE = 5  # chunks searched for each source that is ranked


def score(
    store: SimpleDocumentStore,
    questions: Sequence[Question],
    *,
    mode: str = "keyword",
    k: int = 10,
    progress: Callable[[float, float], None] | None = None,
) -> dict[str, float]:
    """Return the means over questions of ``ndcg``, ``recall`` and ``mrr`` at ``k``, and of ``covered``.

    A chunk is relevant to a span where they share at least half of the shorter one; where no chunk does, the one that
    shares most is. ``covered`` is the share of a question's characters that the first ``k`` chunks hold, of questions
    with spans only; it does not depend on how texts were cut. A source that is relevant as a whole stands at the rank
    of its best chunk.

    Raises:
        LifelongError: a question names a source that the store does not have; see `SimpleDocumentStore.search`.
    """
    names, spans = _Names(store), _Spans(store)
    sums: dict[str, float] = defaultdict(float)
    for done, question in enumerate(questions, start=1):
        if question.grades:
            grades = {names.find(name, question.place): grade for name, grade in question.grades.items()}
            found = _sources(store.search(question.text, k * _PER_SOURCE, mode))
            gains, possible = [grades.get(source, 0.0) for source in found[:k]], list(grades.values())
        else:
            wanted = [(names.find(name, question.place), start, end) for name, start, end in question.spans]
            relevant = {chunk for item in wanted for chunk in spans.relevant(*item)}
            hits = store.search(question.text, k, mode)
            chunks = [_span(hit) for hit in hits]
            gains, possible = [float(chunk in relevant) for chunk in chunks], [1.0] * len(relevant)
            sums["covered"] += _covered(chunks, wanted)
        sums["ndcg"] += ndcg(gains, possible, k)
        sums["recall"] += recall(gains, possible, k)
        sums["mrr"] += reciprocal_rank(gains, k)
        if progress:
            progress(done, len(questions))
    spanned = sum(bool(question.spans) for question in questions)
    means = {name: total / len(questions) for name, total in sums.items() if name != "covered"}
    return {**means, **({"covered": sums["covered"] / spanned} if spanned else {})}


_Chunk = tuple[str, int, int]


def _span(hit: Hit) -> _Chunk:
    return hit.passage.source, hit.passage.start, hit.passage.end


def _sources(hits: Sequence[Hit]) -> list[str]:
    return list(dict.fromkeys(hit.passage.source for hit in hits))


def _covered(chunks: Sequence[_Chunk], wanted: Sequence[_Chunk]) -> float:
    total = sum(end - start for _, start, end in wanted)
    held = 0.0
    for source in {source for source, _, _ in wanted}:
        mine = [(start, end) for name, start, end in wanted if name == source]
        held += sum(end - start for start, end in mine) * covered([c[1:] for c in chunks if c[0] == source], mine)
    return held / total


class _Names:
    """The sources of a store, found by their path, by their name, or by the name without its suffix."""

    def __init__(self, store: SimpleDocumentStore) -> None:
        self._exact = {source for source, _, _ in store.spans()}
        self._short: dict[str, set[str]] = defaultdict(set)
        for source in self._exact:
            for name in (PurePath(source).name, PurePath(source).stem):
                self._short[name].add(source)

    def find(self, name: str, place: str) -> str:
        if name in self._exact:
            return name
        found = self._short.get(name, set())
        if len(found) == 1:
            return next(iter(found))
        what = f"{len(found)} sources are called" if found else "the store has no source"
        raise LifelongError(f"{what} '{name}'", where=place, fix="Name the source as `lifelong search` shows it.")


class _Spans:
    """The chunks of every source, in order of their start."""

    def __init__(self, store: SimpleDocumentStore) -> None:
        self._chunks: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for source, start, end in store.spans():
            self._chunks[source].append((start, end))
        for listed in self._chunks.values():
            listed.sort()
        self._longest = {name: max(end - start for start, end in listed) for name, listed in self._chunks.items()}

    def relevant(self, source: str, start: int, end: int) -> list[_Chunk]:
        listed = self._chunks[source]
        near = listed[bisect_left(listed, (start - self._longest[source], 0)) : bisect_left(listed, (end, 0))]
        shared = {chunk: min(end, chunk[1]) - max(start, chunk[0]) for chunk in near}
        shared = {chunk: size for chunk, size in shared.items() if size > 0}
        enough = [c for c, size in shared.items() if 2 * size >= min(end - start, c[1] - c[0])]
        if not enough and shared:
            enough = [max(shared, key=lambda chunk: shared[chunk])]
        return [(source, *chunk) for chunk in enough]
