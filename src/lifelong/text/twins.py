"""Equal and nearly equal documents: the first is kept, and the others are told where it stands."""

from __future__ import annotations

from dataclasses import dataclass

from lifelong.text.cleaning import content_hash
from lifelong.text.cutting import piece_of
from lifelong.text.document import SIMILAR, Document


@dataclass(frozen=True, slots=True)
class Twin:
    """An earlier document that a new one resembles.

    Attributes:
        reason: ``duplicate`` or ``near duplicate``, for which the new one is dropped; or empty.
        where: where both stand.
        key: what the earlier one is split by. A conversation that is like another one but for its answers is kept (many
            questions on one text, say), in the same split: held out beside its twin, it would be no test.
    """

    reason: str
    where: str
    key: str


class Twins:
    """Remembers the documents that went by.

    Args:
        near: the similarity from which on a document is a near duplicate; None: only equal ones are found.
    """

    def __init__(self, near: float | None = SIMILAR) -> None:
        self._seen: dict[str, str] = {}  # content hash -> the place that held it first
        self._kept: list[tuple[str, str, int]] = []  # of each near one: its place, its key, a hash of its answers
        self._near = None
        if near:
            from lifelong.text.duplicates import NearDuplicates  # loads numpy

            self._near = NearDuplicates(near)

    def find_or_add(self, document: Document, key: str = "") -> Twin | None:
        """Return the twin of a document that is split by ``key``; None, and remember it, where it is new."""
        place = f"{document.place} ({document.name})" if piece_of(document.name)[1] else document.place
        digest = content_hash(document)
        if digest in self._seen:
            return Twin("duplicate", f"{place} (first seen in {self._seen[digest]})", key)
        self._seen[digest] = place
        if self._near is None:
            return None
        found = self._near.find_or_add(document.text, str(len(self._kept)))
        if found is None:
            if len(self._near.keys) > len(self._kept):  # it was long enough to be remembered
                self._kept.append((place, key, _answers(document)))
            return None
        twin, twin_key, answers = self._kept[int(found)]
        same = not document.messages or answers == _answers(document)
        return Twin("near duplicate" if same else "", f"{place} (nearly {twin})", twin_key)


def _answers(document: Document) -> int:
    return hash(tuple(" ".join(m["content"].split()) for m in document.messages or () if m["role"] == "assistant"))
