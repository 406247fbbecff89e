"""Bad steps: judged before the update, kept from the weights, and undone; fp16's scale; batches that do not fit."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.model.encoder import build_model
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.settings.train import OptimizerSettings
from lifelong.settings.watching import HealthSettings
from lifelong.tokens.loader import Batch
from lifelong.train.fitting import fewer_rows, split_rows
from lifelong.train.health import Health
from lifelong.train.loop import Plan, Step, train_steps
from lifelong.train.objectives import labelled_tokens
from lifelong.train.optim import build_optimizers
from lifelong.train.scaler import FLOOR, LossScaler

CONFIG = ModelConfig(vocab_size=50, d_model=32, num_layers=2, num_query_heads=2, num_kv_heads=1, max_seq_len=16)


class Rows:
    """The same few rows at every step."""

    def __init__(self, rows: int = 4) -> None:
        generator = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(0, CONFIG.vocab_size, (rows, 17), generator=generator)

    def batch(self, step: int) -> Batch:
        return Batch(self.tokens[:, :-1], self.tokens[:, 1:])


def new_model() -> Transformer:
    torch.manual_seed(0)
    return build_model(CONFIG)


def plan_for(model: Transformer, steps: int, name: str = "adamw", rate: float = 1e-3) -> Plan:
    optimizers = build_optimizers(model, OptimizerSettings(name=name))  # type: ignore[arg-type]
    return Plan(steps, optimizers, lambda step: rate)


def weights(model: Transformer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


def poisoned(at: set[int], factor: float = math.nan) -> object:
    """The loss of next tokens, times ``factor`` in the calls that ``at`` counts."""
    calls = iter(range(10**6))

    def objective(model: Transformer, batch: Batch) -> Tensor:
        loss = labelled_tokens(model, batch)
        return loss * factor if next(calls) in at else loss

    return objective


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_bad_step_is_left_out_and_the_others_count(name: str) -> None:
    model = new_model()
    plan = plan_for(model, 6, name)
    plan.objective = poisoned({2, 3})  # type: ignore[assignment]
    before, steps = [weights(model)], []
    for step in train_steps(model, Rows(), plan):
        steps.append(step)
        before.append(weights(model))
    assert [step.bad for step in steps] == [False, False, True, True, False, False]
    assert steps[2].skipped == "the loss is not a number"
    changed = [not torch.equal(one, two) for one, two in pairwise(before)]
    assert changed == [True, True, False, False, True, True]
    assert all(torch.isfinite(value).all() for optimizer in plan.optimizers for value in _state(optimizer))


def _state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def test_three_bad_steps_in_a_row_end_a_run_that_cannot_go_back() -> None:
    model = new_model()
    plan = plan_for(model, 9)
    plan.objective = poisoned({2, 3, 4})  # type: ignore[assignment]
    with pytest.raises(LifelongError, match="not a number for 3 steps in a row, up to step 5"):
        list(train_steps(model, Rows(), plan))


def test_a_loss_that_stays_high_is_gone_on_with_where_there_is_no_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = new_model()
    plan = plan_for(model, 40)
    plan.objective = poisoned(set(range(30, 40)), 5.0)  # type: ignore[assignment]
    steps = list(train_steps(model, Rows(), plan))
    assert [step.step for step in steps if step.bad] == [31, 32, 33]
    assert "the loss jumped from about" in str(steps[30].skipped)
    assert "there is no checkpoint to go back to" in capsys.readouterr().err


def test_spikes_can_be_left_in() -> None:
    model = new_model()
    plan = plan_for(model, 40)
    plan.health = Health(HealthSettings(spikes=False))
    plan.objective = poisoned({30}, 5.0)  # type: ignore[assignment]
    assert not any(step.bad for step in train_steps(model, Rows(), plan))


@given(st.integers(0, 2**32), st.floats(0.0, 8.0), st.floats(0.0, 1.0), st.sampled_from([0.0, 0.5, 0.9]))
def test_a_falling_noisy_loss_never_looks_like_a_spike(seed: int, height: float, noise: float, known: float) -> None:
    # Some rows have been seen before and cost nothing, as late in a long run over little text.
    health, random = Health(), np.random.default_rng(seed)
    for step in range(300):
        seen = step > 20 and random.random() < known
        loss = 0.01 if seen else 3 + height * math.exp(-step / 30) + noise * random.normal()
        assert health.judge(loss, 1.0) is None


@given(st.lists(st.floats(3.9, 4.1), min_size=30, max_size=150), st.floats(6.0, 1e6))
def test_a_loss_far_above_a_level_one_is_a_spike_and_does_not_raise_the_bar(level: list[float], high: float) -> None:
    health = Health()
    for value in level:
        assert health.judge(value, 1.0) is None
    for count in (1, 2, 3):
        assert health.judge(high, 1.0) is not None
        assert health.bad == count
    assert health.exhausted
    assert health.judge(4.0, 1.0) is None and health.bad == 0


@given(st.lists(st.floats(0, 20) | st.just(math.nan), max_size=60), st.integers(0, 59))
def test_health_goes_on_from_its_state_as_if_never_interrupted(losses: list[float], cut: int) -> None:
    whole, first = Health(), Health()
    for step, loss in enumerate(losses):
        assert whole.judge(loss, 1.0) == first.judge(loss, 1.0)
        whole.early_word(step + 1, loss, 1.0, 5), first.early_word(step + 1, loss, 1.0, 5)
        if step == cut:
            second = Health()
            second.restore(first.state())
            first = second
    assert whole.state() == first.state()


def test_a_rate_that_is_too_high_is_said_once_by_the_first_steps() -> None:
    health = Health()
    losses = [6.0, 6.1, 7.0, 9.0, 80.0]
    words = [health.early_word(step, loss, 1e3, 2) for step, loss in enumerate(losses, start=1)]
    assert words[:3] == [None] * 3 and words[4] is None
    assert words[3] == "the loss rose from 6.00 to 9.00 in 4 steps: a learning rate of 1000 is likely too high"


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_fp16_learns_as_fp32_and_its_scale_is_found_without_a_bad_step(name: str) -> None:
    losses = []
    for scaler in (None, LossScaler()):
        model = new_model()
        plan = plan_for(model, 40, name, rate=3e-3)
        plan.scaler = scaler
        if scaler is not None:
            scaler.scale = 2.0**40  # far too high: it must fall first
        steps: list[Step] = list(train_steps(model, Rows(), plan))
        good = [step.loss for step in steps if step.skipped is None]
        assert not any(step.bad for step in steps)
        losses.append(good)
    overflows = len(losses[0]) - len(losses[1])
    assert 5 < overflows < 35
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-3)
    assert losses[1][-1] == pytest.approx(losses[0][len(losses[1]) - 1], rel=0.05)


@given(st.lists(st.booleans(), max_size=400))
def test_the_scale_moves_as_torchs_own(finite: list[bool]) -> None:
    ours, weight = LossScaler(), torch.nn.Parameter(torch.zeros(1))
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2000)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for fine in finite:
        if ours.scale == FLOOR:
            break  # torch's has no floor
        theirs.scale(torch.zeros(()))
        weight.grad = torch.tensor([1.0 if fine else math.inf])
        theirs.step(optimizer)
        theirs.update()
        assert ours.overflowed(1.0, 1.0 if fine else math.inf) is not fine
        assert ours.scale == theirs.get_scale()


def test_the_scale_doubles_after_many_good_steps_and_is_restored() -> None:
    scaler = LossScaler()
    for _ in range(1999):
        scaler.overflowed(1.0, 1.0)
    again = LossScaler()
    again.restore(scaler.state())
    again.overflowed(1.0, 1.0)
    assert (scaler.scale, again.scale) == (2.0**16, 2.0**17)


def test_at_the_floor_of_the_scale_an_overflow_is_a_bad_step() -> None:
    scaler = LossScaler()
    scaler.scale = FLOOR
    assert not scaler.overflowed(1.0, math.inf)
    assert not LossScaler().overflowed(math.nan, math.nan)  # no scale helps a loss that is no number


@given(st.integers(1, 9), st.integers(1, 12) | st.none(), st.booleans())
def test_a_split_batch_has_the_same_rows_in_order(count: int, rows: int | None, packed: bool) -> None:
    ids = torch.arange(count * 3).view(count, 3)
    batch = Batch(ids, ids + 1, ids + 2 if packed else None)
    parts = split_rows(batch, rows)
    assert torch.equal(torch.cat([part.input_ids for part in parts]), ids)
    assert torch.equal(torch.cat([part.labels for part in parts]), ids + 1)
    assert all((part.segment_ids is not None) == packed for part in parts)
    assert max(len(part.input_ids) for part in parts) <= (rows or count)


class Crowded(Transformer):
    """A model on a device with memory for three rows."""

    def loss_sum(self, input_ids: Tensor, labels: Tensor, **more: Tensor | None) -> Tensor:  # type: ignore[override]
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().loss_sum(input_ids, labels, **more)  # type: ignore[arg-type]


def test_a_batch_that_does_not_fit_goes_through_in_parts_with_the_same_gradient(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = []
    for kind in (Transformer, Crowded):
        torch.manual_seed(0)
        model = kind(CONFIG)
        plan = plan_for(model, 5)
        plan.accumulate = 2
        runs.append([(step.loss, step.grad_norm, step.tokens) for step in train_steps(model, Rows(8), plan)])
    assert plan.rows == 2
    for one, other in zip(*runs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    said = capsys.readouterr().err
    assert "from here on 4 rows" in said and "from here on 2 rows" in said and said.count("out of memory") == 2
    later = plan_for(model, 5)
    later.restore(plan.state())
    list(train_steps(model, Rows(8), later))
    assert "out of memory" not in capsys.readouterr().err  # what was found is kept


def test_a_single_row_that_does_not_fit_ends_the_run() -> None:
    assert [fewer_rows(8), fewer_rows(3), fewer_rows(2)] == [4, 2, 1]
    with pytest.raises(LifelongError, match="too little memory for a single row"):
        fewer_rows(1)


def test_clipping_can_be_turned_off() -> None:
    model = new_model()
    plan = plan_for(model, 2)
    plan.grad_clip = 0.0
    before = weights(model)
    list(train_steps(model, Rows(), plan))
    assert not torch.equal(before, weights(model))
