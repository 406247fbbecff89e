"""`lifelong rag-eval`."""

from __future__ import annotations


def rag_eval() -> None:
    """Measure."""
