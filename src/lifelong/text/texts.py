"""A file, or sources, as plain texts in three splits: for programs that go on with lists of strings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lifelong import progress
from lifelong.errors import LifelongError, suggest
from lifelong.text.readers import read_sources
from lifelong.text.splitting import SPLITS, assign
from lifelong.text.stream import Source, as_sources

# What pieces of a text lie between.
_BORDERS = {"paragraph": r"\n[ \t]*(?:\n[ \t]*)+", "line": r"\n+", "sentence": r"(?<=[.!?])\s+(?=\S)", "document": None}


def load_and_split_data(
    file_path: Sequence[Source] | Source,
    split_method: str = "paragraph",
    val_split: float = 0.1,
    test_split: float = 0.0,
    *,
    seed: int = 0,
) -> tuple[list[str], list[str], list[str]]:
    """Read text, cut it into pieces, and share them out: returns train, validation and test texts.

    A piece goes where a hash of its text and the seed says, so equal pieces never lie in two splits, and text that is
    added later moves none. Nothing is dropped but empty pieces.

    Args:
        file_path: a file, folder, glob or `DataSource`, or several; conversations count as one text each.
        split_method: ``paragraph`` (at blank lines), ``sentence``, ``line``, or ``document`` (uncut).
        val_split: share of the pieces for validation.
        test_split: share of the pieces for the test.
        seed: of the split.

    Raises:
        LifelongError: the method is unknown, the shares leave nothing to train on, or a source cannot be read.
    """
    if split_method not in _BORDERS:
        raise LifelongError(
            f"unknown split method '{split_method}'.{suggest(split_method, _BORDERS)}",
            fix=f"Methods: {', '.join(_BORDERS)}.",
        )
    if min(val_split, test_split) < 0 or val_split + test_split >= 1:
        raise LifelongError(f"val_split {val_split} and test_split {test_split} leave nothing to train on")
    sources = as_sources(file_path)
    if any(source.weight != 1.0 for source in sources):
        progress.note("note: weights do not apply to lists of texts; they do in `lifelong train` and in mixtures")
    pieces: list[str] = []
    for document in read_sources(sources):
        border = _BORDERS[split_method]
        found = [document.text] if border is None or document.messages else re.split(border, document.text)
        pieces += [piece.strip("\n") for piece in found if piece.strip()]
    if not pieces:
        raise LifelongError("there is no text here", where=", ".join(str(source.path) for source in sources))
    splits = assign(pieces, (1 - val_split - test_split, val_split, test_split), seed)
    train, gate, test = ([piece for piece in pieces if splits[piece] == name] for name in SPLITS)
    return train, gate, test
