"""Equal and nearly equal documents: the first is kept, and the others are told where it stands."""

from __future__ import annotations

from lifelong.text.cleaning import content_hash
from lifelong.text.cutting import piece_of
from lifelong.text.document import SIMILAR, Document


class Twins:
    """Remembers the documents that went by.

    Args:
        near: the similarity from which on a document is a near duplicate; None: only equal ones are found.
    """

    def __init__(self, near: float | None = SIMILAR) -> None:
        self._seen: dict[str, str] = {}  # content hash -> the place that held it first
        self._near = None
        if near:
            from lifelong.text.duplicates import NearDuplicates  # loads numpy

            self._near = NearDuplicates(near)

    def find_or_add(self, document: Document) -> tuple[str, str] | None:
        """Return ``duplicate`` or ``near duplicate`` and both places; None, and remember it, where it is new."""
        place = f"{document.place} ({document.name})" if piece_of(document.name)[1] else document.place
        digest = content_hash(document)
        if digest in self._seen:
            return "duplicate", f"{place} (first seen in {self._seen[digest]})"
        self._seen[digest] = place
        if self._near and (twin := self._near.find_or_add(document.text, place)):
            return "near duplicate", f"{place} (nearly {twin})"
        return None
