from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.train.optim import Muon, build_optimizers, orthogonalise, schedule, set_rates
from lifelong.train.planning import schedule_notes


@pytest.mark.parametrize("shape", [(3, 32, 48), (2, 48, 32), (1, 24, 24)])
def test_singular_values_are_pushed_to_about_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), torch.float32))
    assert 0.6 < values.min() and values.max() < 1.3


def test_muon_gives_the_updates_of_torchs_own() -> None:
    torch.manual_seed(0)
    starts = [torch.randn(24, 40), torch.randn(24, 40), torch.randn(64, 16)]
    ours = [torch.nn.Parameter(start.clone()) for start in starts]
    theirs = [torch.nn.Parameter(start.clone()) for start in starts]
    mine = Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1)
    oracle = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        mine.step()
        oracle.step()
    for a, b, start in zip(ours, theirs, starts, strict=True):
        # torch's own multiplies in bf16, so it is off by about a hundredth of the update
        assert (a - b).norm() < 0.02 * (a - start).norm()


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = Transformer(ModelConfig(vocab_size=50, d_model=32, num_layers=2, num_query_heads=2))
    muon, adamw = build_optimizers(model, OptimizerSettings())
    in_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    assert in_muon == {id(p) for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2}
    in_adamw = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert in_muon.isdisjoint(in_adamw) and len(in_muon | in_adamw) == len(list(model.parameters()))


def test_momentum_rises_and_embeddings_take_a_multiple_of_the_rate() -> None:
    model = Transformer(ModelConfig(vocab_size=50, d_model=32, num_layers=2, num_query_heads=2))
    muon, adamw = build_optimizers(model, OptimizerSettings(embedding_scale=4.0, weight_decay=0.1))
    for step, momentum in ((0, 0.85), (150, 0.9), (300, 0.95), (5000, 0.95)):
        set_rates(muon, 0.01, step)
        assert muon.param_groups[0]["momentum"] == pytest.approx(momentum)
    set_rates(adamw, 0.01, 0)
    assert [group["lr"] for group in (*muon.param_groups, *adamw.param_groups)] == pytest.approx([0.01, 0.04, 0.04])
    # What decays in a step is rate times decay: the multiple leaves that as it is.
    assert adamw.param_groups[0]["lr"] * adamw.param_groups[0]["weight_decay"] == pytest.approx(0.001)
    low = Muon([torch.nn.Parameter(torch.zeros(2, 2))], lr=1.0, momentum=0.5)
    set_rates(low, 1.0, 0)
    assert low.param_groups[0]["momentum"] == 0.5


def test_schedules_warm_up_stay_and_fall() -> None:
    rate = schedule(ScheduleSettings(warmup_steps=10), 100, 1.0)
    assert rate(0) == pytest.approx(0.1) and rate(9) == 1.0 and rate(39) == 1.0
    assert rate(70) == pytest.approx(0.5) and rate(99) == pytest.approx(1 / 60)
    cosine = schedule(ScheduleSettings(kind="cosine", warmup_steps=0, min_lr=0.1), 100, 1.0)
    assert cosine(0) == pytest.approx(1.0) and cosine(100) == pytest.approx(0.1)
    assert schedule(ScheduleSettings(kind="constant"), 100, 1.0)(99) == 1.0


def test_a_warm_up_longer_than_the_run_is_capped() -> None:
    rate = schedule(ScheduleSettings(warmup_steps=2000), 10, 1.0)
    assert max(rate(step) for step in range(10)) == 1.0


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_cosine_and_linear_fall_as_torchs_own(kind: str) -> None:
    total, peak, floor = 50, 3e-4, 1e-5
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=peak)
    oracle: torch.optim.lr_scheduler.LRScheduler
    if kind == "cosine":
        oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total, eta_min=floor)
    else:
        oracle = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, floor / peak, total)
    rate = schedule(ScheduleSettings.build({"kind": kind, "warmup_steps": 0, "min_lr": floor}), total, peak)
    for step in range(total + 1):
        assert rate(step) == pytest.approx(oracle.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        oracle.step()


@given(
    kind=st.sampled_from(["wsd", "cosine", "linear", "constant"]),
    total=st.integers(1, 400),
    warmup=st.none() | st.integers(0, 3000),
    floor=st.none() | st.floats(0, 2e-3),
)
def test_every_schedule_reaches_the_peak_and_never_passes_it(
    kind: str, total: int, warmup: int | None, floor: float | None
) -> None:
    settings = ScheduleSettings.build({"kind": kind, "warmup_steps": warmup, "min_lr": floor})
    rates = [schedule(settings, total, 1e-3)(step) for step in range(total)]
    assert max(rates) == pytest.approx(1e-3)
    assert all(rate > 0 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] >= min(floor or 0.0, 1e-3)


def test_what_of_a_schedule_does_not_fit_is_said() -> None:
    def notes(**values: object) -> list[str]:
        return schedule_notes(ScheduleSettings.build(values), 100, 1e-3)

    assert notes(warmup_steps=50, kind="cosine", min_lr=1e-5) == notes() == notes(kind="constant") == []
    assert "warm-up of 51 steps is capped at 50" in notes(warmup_steps=51)[0]
    assert "has no effect" in notes(kind="constant", min_lr=1e-5)[0]
    assert "above the peak" in notes(min_lr=0.01)[0]
