from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.settings.watching import EarlyStoppingSettings
from lifelong.train.watch import Watch

losses = st.lists(st.integers(0, 40).map(lambda value: value / 4), min_size=1, max_size=30)


@given(losses, st.integers(1, 5), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from(["min", "max"]))
def test_waiting_ends_where_torchs_plateau_scheduler_would_act(
    values: list[float], patience: int, min_delta: float, mode: str
) -> None:
    watch = Watch(EarlyStoppingSettings.build({"patience": patience, "min_delta": min_delta, "mode": mode}))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=patience - 1, threshold=min_delta, threshold_mode="abs"
    )
    for step, value in enumerate(values, start=1):
        watch.measured(step, value)
        oracle.step(value)
        assert watch.exhausted == (optimizer.param_groups[0]["lr"] < 1.0)
        assert watch.state()["best"] == oracle.best
        if watch.exhausted:
            break


@given(losses, st.integers(0, 29))
def test_it_goes_on_from_its_state_as_if_never_interrupted(values: list[float], cut: int) -> None:
    settings = EarlyStoppingSettings(patience=3, metric="train_loss")
    whole, first = Watch(settings), Watch(settings)
    for step, value in enumerate(values):
        for one in (whole, first):
            one.step(value, 7)
            if step % 2:
                one.measured(step, None)
        if step == cut:
            second = Watch(settings)
            second.restore(first.state())
            first = second
    assert whole.state() == first.state()


def test_train_loss_is_the_mean_over_tokens_since_the_last_measure() -> None:
    watch = Watch(EarlyStoppingSettings(enabled=True, metric="train_loss"))
    watch.step(2.0, 10)
    watch.step(math.nan, 10)
    watch.step(5.0, 20)
    assert watch.measured(3, 0.1) and watch.state()["best"] == 4.0
    watch.step(3.0, 1)
    assert watch.measured(4, 9.0) and watch.state()["best"] == 3.0


def test_it_is_off_unless_asked_for() -> None:
    assert not EarlyStoppingSettings().on and EarlyStoppingSettings(patience=1).on
    assert EarlyStoppingSettings(enabled=True).measures == 5 and not EarlyStoppingSettings(enabled=False, patience=1).on
