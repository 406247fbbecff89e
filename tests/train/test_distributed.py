"""The rows of a step, shared out among processes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.tokens.loader import Batch
from lifelong.train.distributed import ALONE, _split, seed_of


@given(
    size=st.integers(2, 5),
    rows=st.integers(1, 6),
    count=st.integers(1, 4),
    packed=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_every_row_goes_to_one_process_in_order_and_all_get_as_many(
    size: int, rows: int, count: int, packed: list[bool]
) -> None:
    if rows * count < size:
        return
    batches = []
    for number in range(count):
        ids = torch.arange(number * rows, (number + 1) * rows).unsqueeze(1).expand(rows, 3).contiguous()
        batches.append(Batch(ids, ids + 100, torch.ones_like(ids) if packed[number] else None))
    parts, at_once = _split(batches, size)
    assert at_once <= rows
    assert len({tuple(part["input_ids"].shape) for part in parts}) == 1
    assert len(parts[0]["labels"]) % at_once == 0
    trained = [part["input_ids"][part["labels"][:, 0] != -100, 0] for part in parts]
    assert torch.cat(trained).tolist() == list(range(rows * count))
    for part in parts:
        assert ("segment_ids" in part) == any(packed[:count])
        filled = part["labels"][:, 0] == -100
        assert bool((part["labels"][filled] == -100).all())


def test_alone_nothing_is_changed() -> None:
    assert ALONE.sum(3.5) == ALONE.mean(3.5) == 3.5
    assert ALONE.agree("as it is") == "as it is"


@given(seed=st.integers(0, 2**63), step=st.integers(0, 10**9), rank=st.integers(0, 9))
def test_any_seed_and_step_give_what_torch_takes(seed: int, step: int, rank: int) -> None:
    torch.Generator().manual_seed(seed_of(seed, step, rank))
    assert seed_of(seed, step, rank) != seed_of(seed, step, rank + 1) != seed_of(seed, step + 1, rank)
