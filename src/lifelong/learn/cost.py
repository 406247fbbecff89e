"""What a session computes."""

from __future__ import annotations

from lifelong.model.base import Shape


def session_flops(
    shape: Shape, tokens: int, sequence_length: int, *, adapter_parameters: int = 0, taught: float = 0.0
) -> float:
    """Return the floating-point operations of training on ``tokens`` in rows of ``sequence_length``.

    A forward pass takes 2 per weight and token, and the backward pass 2 for the gradients of what a layer read and 2
    for those of its weights (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). Beside an adapter the weights are
    frozen, and the last 2 fall away but for the adapter's own.

    Args:
        shape: of the model.
        tokens: those that were learned from.
        sequence_length: tokens of a row.
        adapter_parameters: weights of the adapter that was trained; 0: all weights moved.
        taught: share of the tokens that a teacher of the same shape read, too: a forward pass more.
    """
    whole = shape.flops_per_token(sequence_length)
    each = whole * 2 / 3 + 6.0 * adapter_parameters if adapter_parameters else whole
    return tokens * (each + taught * whole / 3)
