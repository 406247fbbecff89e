"""Which split a document belongs to: decided by a hash of its name, so it stays there when other text comes or goes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from lifelong.errors import LifelongError
from lifelong.text.cleaning import content_hash
from lifelong.text.cutting import piece_of
from lifelong.text.document import Document

SPLITS = ("train", "gate", "test")
# With fewer keys, thresholds on the hash would often leave gate or test empty; ranks by hash do not.
FEW_KEYS = 50

_NAMED = re.compile(r"(?P<stem>.*?)[-_. ]?(?P<split>train|training|val|valid|validation|dev|gate|test)", re.IGNORECASE)
_NAMES = {"train": "train", "training": "train", "test": "test"}  # the others are the gate


def named_splits(files: Iterable[Path]) -> dict[Path, tuple[str, ...]]:
    """Return the splits of files that say theirs: ``train.jsonl`` beside ``test.jsonl``, or ``x-train``, ``x-val``.

    The documents of a held-out file go into the one split it names. Those of a training file go into train and, by
    hash, into the splits that have no file. Files named so by chance, without a partner in their folder, are left out.
    """
    groups: dict[tuple[Path, str], dict[Path, str]] = {}
    for file in files:
        if match := _NAMED.fullmatch(file.name.partition(".")[0]):
            split = _NAMES.get(match["split"].lower(), "gate")
            groups.setdefault((file.parent, match["stem"]), {})[file] = split
    found: dict[Path, tuple[str, ...]] = {}
    for group in groups.values():
        held = set(group.values()) - {"train"}
        if held and "train" in group.values():
            rest = tuple(split for split in SPLITS if split not in held)
            found |= {file: rest if split == "train" else (split,) for file, split in group.items()}
    return found


def split_key(document: Document, split_by: str, *, alone: bool = False) -> str:
    """Return what a document is split by: its path below the source, or with ``name`` the file's stem.

    By path, the rows of one file are split each for itself, by their content: a row keeps its split when rows are
    inserted before it. So are the pieces of a long text, by their number: they keep it when text is appended. By name,
    all rows and pieces of a file, and all files of the same stem, stay together; but for pieces where ``alone``.
    """
    if split_by == "name":
        name, number = piece_of(document.name)
        stem = PurePosixPath(name).stem
        return f"{stem}#{number}" if number and alone else stem
    is_row = document.line is not None or document.messages is not None
    return f"{document.name}:{content_hash(document)}" if is_row else document.name


def check_split(fractions: Sequence[float], split_by: str) -> None:
    """Raise LifelongError where the fractions of train, gate and test, or the way to split, make no sense."""
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0 or abs(sum(fractions) - 1) > 1e-6:
        raise LifelongError(f"fractions {tuple(fractions)} must be three numbers (train, gate, test) that sum to 1")
    if split_by not in ("path", "name"):
        raise LifelongError(f"split_by is '{split_by}'", fix="Use 'path' or 'name'.")


def position(key: str, seed: int) -> float:
    """Return the place of a key in [0, 1): a uniform, stable hash of seed and key (BLAKE2b)."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits fit a float exactly, so 1.0 cannot come out


def threshold_split(place: float, fractions: Sequence[float]) -> str:
    """Return the split of a place in [0, 1)."""
    return SPLITS[(place >= fractions[0]) + (place >= fractions[0] + fractions[1])]


def assign(keys: Iterable[str], fractions: Sequence[float], seed: int) -> dict[str, str]:
    """Return the split of each key.

    From 50 keys on, thresholds on the hash: a key's split does not depend on the other keys. With fewer, the keys are
    ranked by hash, so that three keys already give one of each split; with one or two, all are train.
    """
    places = {key: position(key, seed) for key in keys}
    if len(places) >= FEW_KEYS:
        return {key: threshold_split(place, fractions) for key, place in places.items()}
    ranked = sorted(places, key=lambda key: (places[key], key))
    gate, test = (_share(len(ranked), fraction) for fraction in fractions[1:])
    train = len(ranked) - gate - test
    return {key: SPLITS[(rank >= train) + (rank >= train + gate)] for rank, key in enumerate(ranked)}


def _share(keys: int, fraction: float) -> int:
    if keys < 3 or fraction == 0:
        return 0
    return min(max(1, round(keys * fraction)), (keys - 1) // 2)
