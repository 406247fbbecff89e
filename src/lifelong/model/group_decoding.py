"""Reading token by token with models of `transformers`, which keep caches of keys and values of their own.

Shape letters: E experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lifelong.model.foreign import ForeignModel


class GroupDecoder:
    """Reads with a model of `transformers`: prompts of one length that begin together share one of its caches.

    Args:
        model: in evaluation mode.
        length: tokens of a text at most.
        experts: how many compute at once; see `StaticDecoder`.
    """

    exact = False

    def __init__(self, model: ForeignModel, length: int, experts: int = 1) -> None:
        self._model, self._length, self._experts = model, length, experts
        self._groups: list[tuple[list[int], Any]] = []  # numbers of rows, and their cache
        self._rows = 0

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Begin a row for each prompt; those of one length are read together."""
        first = self._rows
        self._rows += len(prompts)
        found: dict[int, Tensor] = {}
        for length in sorted({len(prompt) for prompt in prompts}):
            rows = [row for row, prompt in enumerate(prompts, start=first) if len(prompt) == length]
            ids = torch.tensor([list(prompts[row - first]) for row in rows], device=self._model.device)
            cache = self._model.new_cache(self._experts * len(rows), self._length)
            self._groups.append((rows, cache))
            found.update(self._logits(rows, ids, cache))
        return torch.stack([found[row] for row in range(first, self._rows)], dim=1)

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token of every row, (rows,); return logits (E, rows, V) of what follows."""
        found: dict[int, Tensor] = {}
        for rows, cache in self._groups:
            found.update(self._logits(rows, tokens[rows].unsqueeze(1), cache))
        return torch.stack([found[row] for row in range(self._rows)], dim=1)

    def _logits(self, rows: list[int], ids: Tensor, cache: Any) -> dict[int, Tensor]:
        logits = self._model.next_logits(ids.repeat(self._experts, 1), cache)
        return dict(zip(rows, logits.unflatten(0, (self._experts, -1)).unbind(1), strict=True))

    def drop(self, row: int) -> None:
        """Forget a row; the last row takes its number."""
        self._rows -= 1
        for number, (rows, cache) in enumerate(self._groups):
            if row in rows:
                kept = [index for index, other in enumerate(rows) if other != row]
                rows.remove(row)
                if rows:
                    self._keep(cache, range(self._experts), len(kept) + 1, kept)
                else:
                    del self._groups[number]
                break
        for rows, _ in self._groups:
            rows[:] = [row if other == self._rows else other for other in rows]

    def keep_experts(self, numbers: Sequence[int]) -> None:
        """Forget what the other experts read."""
        for rows, cache in self._groups:
            self._keep(cache, numbers, len(rows), range(len(rows)))
        self._experts = len(numbers)

    def _keep(self, cache: Any, experts: Sequence[int], count: int, rows: Sequence[int]) -> None:
        kept = [expert * count + row for expert in experts for row in rows]
        self._model.keep_rows(cache, torch.tensor(kept, device=self._model.device))
