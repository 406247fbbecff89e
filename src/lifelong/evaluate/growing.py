"""A matrix with one more row: measured as the others were, and answering for its own session alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lifelong import progress
from lifelong.evaluate.matrix import Matrix, Measuring

ANEW = "measured anew"  # the label of a row that no session made


def measuring_of(raw: dict[str, Any] | None, otherwise: Measuring) -> Measuring:
    """Return how the next row of a matrix is to be measured: as its rows were, or ``otherwise`` where there are none.

    Other lengths of rows, and other parts of a slice, give other figures of the same model.
    """
    found = Matrix.from_dict(raw).measuring if raw else None
    if found is not None and found != otherwise:
        length = "the model's own length" if found.sequence_length is None else f"{found.sequence_length} tokens"
        progress.note(
            f"note: the matrix is measured as it was before: rows of {length}, {found.max_bytes:,} bytes a domain"
        )
    if found is None:
        return otherwise
    return replace(found, sequence_length=found.sequence_length or otherwise.sequence_length)


def extend_matrix(
    raw: dict[str, Any] | None, before: dict[str, float], after: dict[str, float], label: str, measuring: Measuring
) -> Matrix:
    """Return the matrix with one more row.

    Args:
        raw: the matrix so far, or None before the first lesson.
        before: bits per byte per domain just before the lesson; fills what the last row could not know. Where it
            contradicts that row, it becomes a row of its own, so that the lesson answers for what it did alone: a
            source was forgotten or an adapter imported since.
        after: the same just after.
        label: name of the new row.
        measuring: how it was measured; see `measuring_of`.
    """
    matrix = Matrix.from_dict(raw) if raw else Matrix(domains=[], sessions=["start"], bpb=[[]])
    domains = [*matrix.domains, *(domain for domain in before if domain not in matrix.domains)]
    rows = [[*row, *[None] * (len(domains) - len(row))] for row in matrix.bpb]
    sessions, last = list(matrix.sessions), dict(zip(domains, rows[-1], strict=True))
    if any(value is not None and _apart(value, before.get(domain, value)) for domain, value in last.items()):
        sessions.append(ANEW)
        rows.append([before.get(domain) for domain in domains])
    else:
        rows[-1] = [before.get(domain) if value is None else value for domain, value in last.items()]
    rows.append([after.get(domain) for domain in domains])
    return Matrix(domains, [*sessions, label], rows, matrix.notes, measuring=measuring)


def _apart(one: float, other: float) -> bool:
    """Whether two measures differ by more than rounding, threads and devices make them."""
    return abs(one - other) > 1e-3 * abs(one)
