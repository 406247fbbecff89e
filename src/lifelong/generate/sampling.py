"""Choosing the next token from scores.

A token is drawn by the Gumbel-max trick: to each score noise is added that only the text's key, the position and the
token's id decide, and the largest sum wins. The choice is then a draw from the softmax of the scores (Gumbel 1954;
Maddison et al. 2014, arXiv:1411.0030), and small differences of the scores hardly ever change it: what `choose` returns
beside the tokens says where they might.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lifelong.errors import LifelongError

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]

_MORE = 8  # candidates behind the last of top-k: rounding might put one of them in its place
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, in this order.

    Attributes:
        banned: ids that are never chosen.
        repetition_penalty: the score of a token that was read or written is divided by it where positive, else
            multiplied (Keskar et al. 2019, arXiv:1909.05858); 1: off.
        temperature: divides the scores; 0 takes the likeliest token, the lowest id in a tie.
        top_k: keeps the k likeliest; 0: all.
        top_p: keeps the smallest set of likeliest tokens whose probabilities sum to at least p (Holtzman et al. 2020,
            arXiv:1904.09751); 0 or 1: all.
        min_p: drops tokens below this share of the likeliest one's probability (Nguyen et al. 2024, arXiv:2407.01082).

    Raises:
        LifelongError: a setting is out of its range.
    """

    temperature: float = 0.8
    top_p: float = 0.9
    top_k: int = 50
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    banned: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise LifelongError(
                f"temperature {self.temperature} is negative", fix="Use 0 for the likeliest token, or more."
            )
        if self.top_k < 0:
            raise LifelongError(f"top-k {self.top_k} is negative", fix="Use 0 for no limit, or a number of tokens.")
        for name, value in (("top-p", self.top_p), ("min-p", self.min_p)):
            if not 0 <= value <= 1:
                raise LifelongError(f"{name} {value} is not in [0, 1]", fix="Use 0 for no limit.")
        if not self.repetition_penalty > 0:
            raise LifelongError(f"repetition penalty {self.repetition_penalty} is not above 0", fix="Use 1 for none.")

    @cached_property
    def banned_ids(self) -> Tensor:
        """The banned ids, (n,)."""
        return torch.tensor(sorted(self.banned), dtype=torch.long)


def key_of(seed: int | None, sample: int = 0) -> int:
    """Return the key of a text's draws, 64 bits: of its seed and its number among texts of that seed, else random."""
    data = os.urandom(8) if seed is None else hashlib.sha256(f"{seed}:{sample}".encode()).digest()[:8]
    return int.from_bytes(data, "little")


def penalise(scores: Tensor, seen: Sequence[int], penalty: float) -> None:
    """Apply a repetition penalty to the scores (V,) of one text that has the tokens ``seen``, in place."""
    ids = torch.tensor(sorted(set(seen)), device=scores.device)
    there = scores[ids]
    scores[ids] = torch.where(there < 0, there * penalty, there / penalty)


def choose(
    scores: Tensor, sampling: Sampling, keys: Sequence[int], positions: Sequence[int], *, error: float = 0.0
) -> tuple[list[int], list[bool]]:
    """Return a token for each row of scores (B, V), which may be overwritten, and whether the choice was close.

    Args:
        scores: unnormalised log-probabilities.
        sampling: what is applied, but for the repetition penalty; see `penalise`.
        keys: of each text; see `key_of`.
        positions: how many tokens of each text were drawn before.
        error: scores may be off by this share of the largest one's size, or of 1 where that is less. A choice is close
            if such an error could have made another one.

    Raises:
        LifelongError: scores are not numbers.
    """
    if sampling.banned:
        scores[:, sampling.banned_ids.to(scores.device)] = -torch.inf
    size = scores.shape[1]
    if sampling.temperature == 0:
        best = scores.argmax(-1)
        _refuse_nan(scores.gather(1, best.unsqueeze(1)).flatten().tolist())
        if not error or size == 1:
            return best.tolist(), [False] * len(scores)
        first, second = scores.topk(2).values.double().cpu().numpy().T
        close = first - second <= 2 * error * np.maximum(np.abs(first), 1)
        return best.tolist(), close.tolist()
    if 0 < sampling.top_k < size:
        values, ids = scores.topk(min(sampling.top_k + _MORE, size))
    elif 0 < sampling.top_p < 1:
        values, ids = scores.sort(dim=-1, descending=True, stable=True)
    else:
        values, ids = scores, torch.arange(size, device=scores.device).expand_as(scores)
    ordered = values.double().cpu().numpy()
    highest = ordered.max(-1, keepdims=True)
    _refuse_nan(highest)
    # The largest score becomes 0 first: a tiny temperature can then make others -inf, never anything NaN.
    logs = (ordered - highest) / sampling.temperature
    slack = 2 * error * np.maximum(np.abs(highest), 1) / sampling.temperature
    tokens = ids.cpu().numpy()
    noisy = logs + _noise(keys, positions, tokens)
    rows = np.arange(len(scores))
    allowed = _allowed(logs, sampling, np.zeros_like(slack))
    winner = np.where(allowed, noisy, -np.inf).argmax(-1)
    if not error:
        return tokens[rows, winner].tolist(), [False] * len(scores)
    best_noisy = noisy[rows, winner]
    rivals = np.where(_allowed(logs, sampling, slack), noisy, -np.inf)
    rivals[rows, winner] = -np.inf
    close = (rivals.max(-1) >= best_noisy - slack[:, 0]) | ~_allowed(logs, sampling, -slack)[rows, winner]
    return tokens[rows, winner].tolist(), close.tolist()


def _allowed(logs: Floats, sampling: Sampling, slack: Floats) -> npt.NDArray[np.bool_]:
    """Return which candidates may be drawn, if every limit is moved by ``slack`` in log-probability (B, 1).

    ``logs`` (B, n) are scores below the largest one's, from the likeliest on where top-k or top-p are applied.
    """
    allowed = logs > -np.inf
    unsure: Floats | float = np.abs(slack)
    if 0 < sampling.top_k < logs.shape[1]:
        last, after = logs[:, sampling.top_k - 1 : sampling.top_k], logs[:, sampling.top_k : sampling.top_k + 1]
        # With a margin, a token is in for sure where it is above all that are out.
        allowed &= logs >= np.where(slack < 0, np.maximum(last, after - slack), last - slack)
        # Where it is not sure who is in, the others' shares are not, either.
        edge = (logs >= last - unsure) & (logs <= after + unsure)
        unsure = unsure + (np.exp(logs) * edge).sum(-1, keepdims=True)
        masses = np.exp(logs) * (logs >= last)
    else:
        masses = np.exp(logs)
    if 0 < sampling.top_p < 1:
        masses = masses / masses.sum(-1, keepdims=True)
        # A token goes when those before it already hold p; so the likeliest always stays.
        before = _before(logs, masses, slack)
        allowed &= (before < sampling.top_p + np.sign(slack) * unsure) | (before == 0)
    if sampling.min_p > 0:
        allowed &= logs >= np.log(sampling.min_p) - slack
    return allowed


def _before(logs: Floats, masses: Floats, slack: Floats) -> Floats:
    """Return the probability of all tokens before each; of nearly equal ones the least there can be, or the most."""
    before: Floats = masses.cumsum(-1) - masses
    unsure = (logs[:, 1:] > -np.inf) & (logs[:, 1:] >= logs[:, :-1] - np.abs(slack))
    for row in (unsure.any(-1) & (slack[:, 0] != 0)).nonzero()[0]:
        falling, sums = -logs[row], np.concatenate(([0.0], masses[row].cumsum()))
        if slack[row, 0] > 0:
            before[row] = sums[np.searchsorted(falling, falling - slack[row], side="left")]
        else:
            before[row] = sums[np.searchsorted(falling, falling - slack[row], side="right")] - masses[row]
    return before


def _noise(keys: Sequence[int], positions: Sequence[int], tokens: npt.NDArray[np.int64]) -> Floats:
    """Return Gumbel noise (B, n) that depends on key, position and token alone (Steele et al. 2014, "SplitMix")."""
    state = np.array(keys, dtype=np.uint64) + np.array(positions, dtype=np.uint64) * _GOLDEN
    bits = _mix(_mix(state)[:, None] + tokens.astype(np.uint64) * _GOLDEN)
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    noise: Floats = -np.log(-np.log(uniform))
    return noise


def _mix(x: Keys) -> Keys:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _refuse_nan(values: Floats | list[float]) -> None:
    if np.isnan(values).any():
        raise LifelongError("the model's output is not a number (NaN): its weights are damaged")
