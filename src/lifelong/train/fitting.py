"""Batches that do not fit into memory, in smaller parts: the gradient is that of the whole."""

from __future__ import annotations

from dataclasses import fields, replace

from lifelong.errors import LifelongError
from lifelong.tokens.loader import Batch


def split_rows(batch: Batch, rows: int | None) -> list[Batch]:
    """Return a batch in parts of at most ``rows`` rows, in order; as it is, where it is no larger (None: any size)."""
    count = len(batch.input_ids)
    if rows is None or count <= rows:
        return [batch]
    held = {item.name: value for item in fields(batch) if (value := getattr(batch, item.name)) is not None}
    return [
        replace(batch, **{name: value[start : start + rows] for name, value in held.items()})
        for start in range(0, count, rows)
    ]


def fewer_rows(rows: int) -> int:
    """Return how many rows to try after ``rows`` were too many.

    Raises:
        LifelongError: it was one already.
    """
    if rows == 1:
        raise LifelongError(
            "the device has too little memory for a single row",
            fix="Use a shorter --sequence-length, a smaller --preset, or --precision bf16.",
        )
    return (rows + 1) // 2
