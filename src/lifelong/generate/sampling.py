"""Choosing the next token from logits."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from lifelong.errors import LifelongError


def check_sampling(*, temperature: float, top_k: int, top_p: float) -> None:
    """Check the sampling settings before any work is done.

    Raises:
        LifelongError: a setting is out of its range.
    """
    if not temperature >= 0:
        raise LifelongError(f"temperature {temperature} is negative", fix="Use 0 for the likeliest token, or more.")
    if top_k < 0:
        raise LifelongError(f"top-k {top_k} is negative", fix="Use 0 for no limit, or a number of tokens.")
    if not 0 <= top_p <= 1:
        raise LifelongError(f"top-p {top_p} is not in [0, 1]", fix="Use 1 for no limit, 0.9 for the usual one.")


def sample_next(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    greedy: bool = False,
    banned: Collection[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return one token id per row, (B,) int64 on the logits' device, drawn from logits (B, V).

    In this order: banned ids are removed, the temperature divides, ``top_k`` keeps the k likeliest (0 = all), ``top_p``
    keeps the smallest set of likeliest tokens whose probabilities sum to at least p (0 or 1 = all;
    nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751), and one is drawn. ``temperature`` 0 or ``greedy`` takes
    the likeliest, the lowest id in a tie.

    Draws happen on the CPU in fp32, so a seeded ``generator`` (a CPU one) gives the same choice on every device.

    Raises:
        LifelongError: a setting is out of range, or the logits are not finite numbers.
    """
    check_sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    scores = logits.detach().float().cpu().clone()
    if torch.isnan(scores).any():
        raise LifelongError("the model's output is not a number (NaN): its weights are damaged")
    if banned:
        scores[:, list(banned)] = -torch.inf
    if greedy or temperature == 0:
        return scores.argmax(-1).to(logits.device)
    # The largest score becomes 0 first: a tiny temperature can then make others -inf, never anything NaN.
    scores = (scores - scores.amax(-1, keepdim=True)) / temperature
    if 0 < top_k < scores.shape[-1]:
        scores[scores < scores.topk(top_k).values[:, -1:]] = -torch.inf
    if 0 < top_p < 1:
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        probabilities = ordered.softmax(-1)
        # A token goes when those before it already hold p; so the likeliest always stays.
        ordered[probabilities.cumsum(-1) - probabilities >= top_p] = -torch.inf
        scores = torch.empty_like(scores).scatter_(-1, order, ordered)
    return torch.multinomial(scores.softmax(-1), 1, generator=generator).squeeze(-1).to(logits.device)
