"""Lessons: naive fine-tuning really forgets, ours does far less, and what is undone is undone to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from driving import lost, visible
from lifelong.errors import LifelongError
from lifelong.learn.cost import Forecast
from lifelong.learn.forgetting import forget
from lifelong.learn.ledger import read_history, read_matrix, rollback
from lifelong.learn.session import LessonResult, learn
from lifelong.model.directory import load_model
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.text.memory import ReplayMemory
from lifelong.train.founding import MEMORY

NEW_STEPS = 60


def settings(**choices: object) -> LearnSettings:
    base = {"domain": "code", "batch_size": 8, "sequence_length": 64, "max_bytes": 20000}
    return LearnSettings.build({**base, **choices})


def teach(model: Path, source: Path, **choices: object) -> LessonResult:
    result = learn(model, [str(source)], settings(**choices))
    assert isinstance(result, LessonResult)
    return result


def test_f07_a_lesson_with_replay_and_ewc_forgets_at_most_a_third_of_what_naive_tuning_does(
    copy_of: Callable[[str], Path], code_file: Path
) -> None:
    naive = teach(copy_of("naive"), code_file, mode="full", replay_share=0, use_ewc=False, accept=True, steps=NEW_STEPS)
    ours = teach(copy_of("ours"), code_file, steps=2 * NEW_STEPS, accept=True)  # half of the rows are replay
    assert lost(naive, "manual") > 0.1  # real forgetting, or the rest proves nothing
    assert lost(naive, "code") < -0.1 and lost(ours, "code") < -0.05  # and both learned
    assert lost(ours, "manual") < lost(naive, "manual") / 3
    assert ours.predicted_damage is not None and ours.predicted_damage > 0


def test_the_gate_undoes_a_lesson_that_forgets_and_the_model_is_as_it_was(model: Path, code_file: Path) -> None:
    before = visible(model)
    wild = {"mode": "full", "replay_share": 0, "use_ewc": False, "learning_rate": 0.03}
    result = teach(model, code_file, steps=NEW_STEPS, **wild)
    assert not result.accepted and any("forgotten" in reason for reason in result.decision.reasons)
    after = visible(model)
    record = "lifelong/sessions/0001-code.json"
    assert {name: digest for name, digest in after.items() if name != record} == before
    assert record in after and read_history(model)[-1]["accepted"] is False
    with pytest.raises(LifelongError, match="no matrix"):
        read_matrix(model)


def test_a_lesson_that_costs_an_old_domain_too_much_goes_back_a_part_of_its_way(model: Path, code_file: Path) -> None:
    result = teach(model, code_file, mode="full", replay_share=0, use_ewc=False, steps=NEW_STEPS)
    assert result.accepted and result.scale < 1
    assert any("of its way was kept" in reason for reason in result.decision.reasons)
    assert result.changes["manual"].relative < 0.02 and result.changes["code"].difference < 0


def test_f08_two_lessons_leave_named_adapters_side_by_side_and_can_be_rolled_back(
    model: Path, code_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "poem.txt").write_text("\n\n".join(f"Line {i}: the sea is {i} miles wide." for i in range(600)))
    start = visible(model)
    teach(model, code_file, mode="adapter", steps=10, accept=True)
    after_first = visible(model)
    second = teach(model, tmp_path / "poem.txt", domain="sea", adapter_name="sailor", steps=10, accept=True)
    assert "can cost a text 0.58 bits in all" in second.summary()  # log2(3 / 2)
    assert second.matrix.sessions == ["start", "code", "sea"] and second.matrix.domains == ["manual", "code", "sea"]
    assert sorted(path.name for path in (model / "lifelong/adapters").iterdir()) == ["code", "sailor"]
    assert set(ModelStore.open(model).state()["memory"]) == {"manual", "code", "sea"}
    load_model(model, adapter="code")
    with pytest.raises(LifelongError, match="no adapter 'nobody'; there are: code, sailor"):
        load_model(model, adapter="nobody")
    assert rollback(model)["undone_session"] == 2
    assert visible(model) == after_first
    assert rollback(model)["undone_session"] == 1
    assert visible(model) == start
    with pytest.raises(LifelongError, match="nothing to roll back"):
        rollback(model)
    assert [event["event"] for event in read_history(model)] == ["train", "lesson", "lesson", "rollback", "rollback"]


def test_an_adapter_lesson_leaves_the_base_weights_alone(model: Path, code_file: Path) -> None:
    before = visible(model)["model.safetensors"]
    teach(model, code_file, mode="adapter", steps=3, accept=True)
    assert visible(model)["model.safetensors"] == before
    assert ModelStore.open(model).damage() == []


def test_text_too_small_to_measure_is_taught_and_recorded_as_unmeasured(model: Path, tmp_path: Path) -> None:
    sentence = "Python is a high-level programming language. " * 12
    (tmp_path / "one.txt").write_text(sentence)
    result = teach(model, tmp_path / "one.txt", domain="one", steps=2, batch_size=1, replay_share=0.5)
    assert any("unmeasured" in reason for reason in result.decision.reasons)
    assert "one" not in result.matrix.domains


def test_a_dry_run_changes_nothing(model: Path, code_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, files = visible(model), sorted(model.rglob("*"))
    found = learn(model, [str(code_file)], settings(), dry_run=True)
    assert visible(model) == before and sorted(model.rglob("*")) == files
    assert isinstance(found, Forecast) and f"{found.steps:,} steps" in capsys.readouterr().err
    assert found.bits_per_byte == pytest.approx(teach(model, code_file, steps=2, accept=True).changes["code"].before)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"domain": "../evil"}, "it names a folder"),
        ({"mode": "adapter", "lora_rank": 512}, "larger than layer"),
        ({"mode": "adapter", "adapter_name": "base"}, "cannot be an adapter's name"),
    ],
)
def test_what_cannot_work_is_refused_and_the_model_untouched(
    choices: dict[str, object], message: str, model: Path, code_file: Path
) -> None:
    before = visible(model)
    with pytest.raises(LifelongError, match=message):
        teach(model, code_file, steps=2, **choices)
    assert visible(model) == before


def test_all_weights_do_not_move_beneath_adapters(model: Path, code_file: Path) -> None:
    teach(model, code_file, mode="adapter", steps=2, accept=True)
    with pytest.raises(LifelongError, match="lifelong consolidate"):
        teach(model, code_file, domain="more", mode="full", steps=2)


@pytest.mark.slow
def test_a_domain_taught_again_gets_a_new_version_that_goes_on_from_the_last(model: Path, code_file: Path) -> None:
    teach(model, code_file, mode="adapter", steps=20, accept=True)
    with pytest.raises(LifelongError, match="taught all of it"):
        teach(model, code_file, steps=2)
    again = teach(model, code_file, again=True, steps=1, learning_rate=1e-9, accept=True)
    assert ModelStore.open(model).adapters() == ["code", "code-2"]
    alone = again.alone["code"]
    assert alone["code-2"] == pytest.approx(alone["code"], abs=1e-3) and alone["code"] < alone["base"] - 0.1


def test_importance_weighs_a_text_beside_its_replay(copy_of: Callable[[str], Path], code_file: Path) -> None:
    """Four times as important: the same rows, and more of the new domain is learned from them."""
    plain, four = (
        teach(copy_of(name), code_file, mode="full", steps=40, importance=weight, use_ewc=False, accept=True)
        for name, weight in (("plain", 1.0), ("four", 4.0))
    )
    assert four.matrix.bpb[-1][1] < plain.matrix.bpb[-1][1] - 0.01
    assert lost(four, "manual") > lost(plain, "manual")


@pytest.mark.slow
def test_a_new_domain_is_measured_on_what_later_sessions_measure(model: Path, code_file: Path, tmp_path: Path) -> None:
    """More held-out text than is measured: the first figure of a domain is of the same documents as all later ones."""
    (tmp_path / "poem.txt").write_text("\n\n".join(f"Line {i}: the sea is {i} miles wide." for i in range(600)))
    first = teach(model, code_file, mode="adapter", steps=5, accept=True, max_bytes=4000)
    second = teach(model, tmp_path / "poem.txt", domain="sea", steps=1, learning_rate=1e-9, accept=True, max_bytes=4000)
    code = first.matrix.domains.index("code")
    before, after = first.matrix.bpb[-1][code], second.matrix.bpb[-1][code]
    assert after == pytest.approx(before, abs=0.01) and second.changes["code"].before == pytest.approx(
        first.changes["code"].after, abs=1e-6
    )


def test_forgetting_a_source_that_was_trained_on_says_that_the_weights_keep_it(model: Path) -> None:
    source = ReplayMemory.load(model / MEMORY).documents("manual")[0].source
    gone = forget(model, source)
    assert gone.examples > 0 and any("'manual' was trained into all weights" in line for line in gone.stays)
    assert ReplayMemory.load(model / MEMORY).counts() == {}
