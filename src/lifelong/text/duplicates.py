"""Near duplicates: documents that are the same but for a few words.

MinHash (Broder 1997, "On the resemblance and containment of documents") over shingles of five characters estimates the
Jaccard similarity of two documents; banding (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4)
finds the pairs worth comparing without comparing all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lifelong.text.document import SIMILAR

SHINGLE = 5
# Characters. In a shorter text a few other words are another statement: "What is 2 + 3?" has no near duplicates.
SHORTEST = 200
# 21 bands of 6 values: a pair at the threshold becomes a candidate in 998 of 1000 cases, one at 0.4 in 82.
_BANDS, _ROWS = 21, 6
_VALUES = _BANDS * _ROWS
_CROWD = 32  # documents kept in one bucket: a text that thousands share in part must not make the search quadratic
_MIX = np.uint64(0x9E3779B97F4A7C15)
Hashes = npt.NDArray[np.uint64]


class NearDuplicates:
    """Remembers texts, and finds for a new one an earlier one that is nearly the same.

    About 3 kB of memory a text, however long it is.

    Args:
        threshold: the estimated Jaccard similarity from which on two texts are near duplicates.
    """

    def __init__(self, threshold: float = SIMILAR) -> None:
        self.threshold = threshold
        self.keys: list[str] = []
        self._digests = np.empty((256, _VALUES), dtype=np.uint32)
        self._buckets: dict[int, int | list[int]] = {}

    def find_or_add(self, text: str, key: str) -> str | None:
        """Return the key of an earlier near duplicate; where there is none, remember the text under ``key``.

        Texts of less than 200 characters have none, and are not remembered.
        """
        digest = _digest(text)
        if digest is None:
            return None
        buckets = _bucket_ids(digest)
        found = self._nearest(digest, buckets)
        if found is None:
            self._add(digest, buckets, key)
        return found

    def find(self, text: str) -> str | None:
        """Return the key of a remembered near duplicate, or None; nothing is remembered."""
        digest = _digest(text)
        return None if digest is None else self._nearest(digest, _bucket_ids(digest))

    def _nearest(self, digest: npt.NDArray[np.uint32], buckets: list[int]) -> str | None:
        candidates = set()
        for bucket in buckets:
            held = self._buckets.get(bucket)
            if held is not None:
                candidates.update([held] if isinstance(held, int) else held)
        if candidates:
            found = sorted(candidates)
            alike = np.count_nonzero(self._digests[found] == digest, axis=1)
            best = int(alike.argmax())
            if alike[best] >= self.threshold * _VALUES:
                return self.keys[found[best]]
        return None

    def _add(self, digest: npt.NDArray[np.uint32], buckets: list[int], key: str) -> None:
        number = len(self.keys)
        self.keys.append(key)
        if number == len(self._digests):
            self._digests = np.concatenate([self._digests, np.empty_like(self._digests)])
        self._digests[number] = digest
        for bucket in buckets:
            held = self._buckets.get(bucket)
            if held is None:
                self._buckets[bucket] = number
            elif isinstance(held, int):
                self._buckets[bucket] = [held, number]
            elif len(held) < _CROWD:
                held.append(number)


def _digest(text: str) -> npt.NDArray[np.uint32] | None:
    """Return the MinHash of a text, case and white space aside: (values,) uint32."""
    from rensa import RMinHash

    folded = " ".join(text.lower().split())
    if len(folded) < SHORTEST:
        return None
    shingles = _shingles(folded)
    offsets = np.array([0, len(shingles)], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets, _VALUES, 0)
    return np.array(matrix.to_rows()[0], dtype=np.uint32)


def _shingles(text: str) -> Hashes:
    """Return a 64-bit hash of every run of five characters."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    count = len(points) - SHINGLE + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(SHINGLE):
        hashes = hashes * _MIX + points[place : place + count]
    # The polynomial alone leaves the low bits of neighbours related; MinHash wants them to look random.
    hashes ^= hashes >> np.uint64(32)
    return hashes * _MIX


def _bucket_ids(digest: npt.NDArray[np.uint32]) -> list[int]:
    hashes = np.arange(_BANDS, dtype=np.uint64)
    for row in digest.reshape(_BANDS, _ROWS).T.astype(np.uint64):
        hashes = (hashes ^ row) * _MIX
        hashes ^= hashes >> np.uint64(29)
    ids: list[int] = hashes.tolist()
    return ids
