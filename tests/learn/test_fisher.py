"""The running Fisher: old domains stay guarded when none of their text is kept. And the model before as a teacher."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from driving import lost
from lifelong.cli.app import main
from lifelong.errors import LifelongError
from lifelong.learn.consolidation import consolidate
from lifelong.learn.distil import Distillation
from lifelong.learn.domains import list_domains
from lifelong.learn.fisher import RunningFisher, guarded_domains, read_fisher
from lifelong.learn.forgetting import forget
from lifelong.learn.ledger import rollback
from lifelong.learn.session import LessonResult, learn
from lifelong.model.adapters import adapted_layers
from lifelong.model.directory import load_model
from lifelong.model.experts import BASE
from lifelong.model.store import ModelStore
from lifelong.settings.consolidate import ConsolidateSettings
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import TrainSettings
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.loader import Batch
from lifelong.train.founding import FISHER, MEMORY
from lifelong.train.objectives import labelled_tokens
from lifelong.train.run import train

SMALL = {
    "batch_size": 8,
    "sequence_length": 64,
    "max_bytes": 8000,
    "fisher_batches": 8,
    "precision": "fp32",
    "accept": True,
}
BARE = {"mode": "full", "replay_buffer_size": 0, "replay_share": 0}


def teach(model: Path, source: Path, domain: str, **choices: object) -> LessonResult:
    result = learn(model, [str(source)], LearnSettings.build({**SMALL, "domain": domain, **choices}))
    assert isinstance(result, LessonResult)
    return result


def copied(model: Path, name: str) -> Path:
    shutil.copytree(model, model.parent / name)
    return model.parent / name


@pytest.fixture
def sea(tmp_path: Path) -> Path:
    (tmp_path / "sea.txt").write_text("\n\n".join(f"Line {n}: the sea is {n} miles wide." for n in range(900)))
    return tmp_path / "sea.txt"


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"mode": "full"}, "for EWC, to find what 2 domains need of the weights"),
        ({"mode": "adapter"}, "for EWC, to find what a domain needs of the weights"),
        ({"mode": "full", "use_ewc": False}, ""),
    ],
)
def test_the_time_that_is_announced_names_the_estimate_of_ewc(
    model: Path, sea: Path, choices: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = LearnSettings.build({**SMALL, "domain": "sea", "steps": 2, **choices})
    learn(model, [str(sea)], settings, dry_run=True)
    found = capsys.readouterr().err
    assert said in found and ("EWC" in found) == bool(said)


@pytest.mark.slow
def test_f18_a_domain_without_any_text_left_is_still_guarded(
    model: Path, code_file: Path, sea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remembered = len(ReplayMemory.load(model / MEMORY).documents())
    assert guarded_domains(model / FISHER) == []  # a directory from before, or just trained
    teach(model, code_file, "code", **BARE, steps=50)
    assert f"lets go of some that it held: {remembered:,} of 'manual'" in capsys.readouterr().err
    assert ReplayMemory.load(model / MEMORY).documents() == []
    assert guarded_domains(model / FISHER) == ["manual", "code"]
    start = (model / FISHER).read_bytes()

    naive = teach(copied(model, "naive"), sea, "sea", **BARE, steps=50, use_ewc=False)
    ours = teach(model, sea, "sea", **BARE, steps=50)
    assert lost(naive, "code") > 0.1 and lost(naive, "manual") > 0.1  # real forgetting, or the rest proves nothing
    assert lost(naive, "sea") < -0.3 and lost(ours, "sea") < -0.3  # both learned
    assert lost(ours, "code") < 0.7 * lost(naive, "code")
    assert lost(ours, "manual") < 0.7 * lost(naive, "manual")
    assert guarded_domains(model / FISHER) == ["manual", "code", "sea"]
    record = json.loads((model / "lifelong/sessions/0002-sea.json").read_text())
    assert record["fisher_bytes"] == (model / FISHER).stat().st_size > 0
    assert {item["domain"] for item in list_domains(model) if item["guarded"]} == {"manual", "code", "sea"}
    # With EWC off, what was there stays as it was; and so it comes back when the lesson is undone.
    assert (model.parent / "naive" / FISHER).read_bytes() == start != (model / FISHER).read_bytes()
    rollback(model)
    assert (model / FISHER).read_bytes() == start and ModelStore.open(model).damage() == []
    rollback(model)
    assert not (model / FISHER).exists() and len(ReplayMemory.load(model / MEMORY).documents()) == remembered


@pytest.mark.slow
def test_an_adapter_adds_nothing_until_it_is_consolidated(
    model: Path, code_file: Path, sea: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teach(model, code_file, "code", mode="adapter", steps=2)
    first = (model / FISHER).read_bytes()
    assert guarded_domains(model / FISHER) == ["manual"]
    result = teach(model, sea, "sea", mode="adapter", steps=2)
    assert (model / FISHER).read_bytes() == first and result.predicted_damage is not None
    settings = ConsolidateSettings.build({**SMALL, "steps": 2, "use_ewc": True})
    consolidate(model, settings)
    assert guarded_domains(model / FISHER) == ["manual", "code", "sea"]
    rollback(model)
    assert (model / FISHER).read_bytes() == first


@pytest.mark.slow
def test_what_was_taught_without_ewc_joins_later_and_the_earlier_decays(
    model: Path, code_file: Path, sea: Path
) -> None:
    teach(model, code_file, "code", mode="full", steps=2, use_ewc=False)
    assert not (model / FISHER).exists()
    teach(model, sea, "sea", mode="adapter", steps=2)
    network, _ = load_model(model, adapter="base")
    both = read_fisher(model, network)
    assert both.domains == ("manual", "code")
    rollback(model)
    teach(model, sea, "sea", mode="full", steps=1, learning_rate=1e-9, ewc_gamma=0.5)
    after = read_fisher(model, network)
    assert after.domains == ("manual", "code", "sea")
    for name, value in after.diagonal.items():
        assert (value >= 0.49 * both.diagonal[name]).all()
    gone = forget(model, str(code_file))
    assert any("'code': EWC goes on guarding it" in line for line in gone.stays)


def test_training_further_takes_it_along_and_training_afresh_does_not(
    model: Path, code_file: Path, sea: Path, tmp_path: Path
) -> None:
    teach(model, code_file, "code", mode="adapter", steps=1)
    before = (model / FISHER).read_bytes()
    given = {"steps": 1, "batch_size": 4, "sequence_length": 64, "domain": "sea", "evaluation": {"max_bytes": 2000}}
    train([str(sea)], tmp_path / "other", TrainSettings.build(given), base=model)
    assert (tmp_path / "other" / FISHER).read_bytes() == before
    train([str(sea)], model, TrainSettings.build(given))
    assert (model / FISHER).read_bytes() == before
    assert guarded_domains(model / FISHER) == ["manual"]


def test_f07_a_fisher_that_does_not_fit_stops_a_lesson_that_needs_it(
    model: Path, code_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = ["learn", str(model), str(code_file), "--domain", "code", "--steps", "1"]
    lesson += ["--sequence-length", "64", "--max-bytes", "4000", "--precision", "fp32"]
    network, _ = load_model(model)
    for spoil in (b"no tensors", None):
        if spoil is None:
            RunningFisher({"a.layer": torch.ones(2, 3)}, ("x",)).save(model / FISHER)
        else:
            (model / FISHER).write_bytes(spoil)
        with pytest.raises(LifelongError):
            read_fisher(model, network)
        assert main(lesson) == 2
        err = capsys.readouterr().err
        assert str(model / FISHER) in err and "--no-use-ewc" in err and "Traceback" not in err
    assert main([*lesson, "--no-use-ewc", "--accept"]) == 0


@given(st.lists(st.floats(0, 1e3, width=32), min_size=4, max_size=4), st.floats(0, 1))
def test_what_joins_is_added_to_what_decays(values: list[float], gamma: float) -> None:
    old = RunningFisher({"w": torch.tensor(values[:2])}, ("a", "b"))
    new = RunningFisher({"w": torch.tensor(values[2:])}, ("b", "c"))
    found = old.joined_by(new, gamma)
    assert found.domains == ("a", "b", "c") and found.changed
    expected = [gamma * first + second for first, second in zip(values[:2], values[2:], strict=True)]
    assert found.diagonal["w"].tolist() == pytest.approx(expected, rel=1e-5)
    assert old.joined_by(RunningFisher(), gamma) is old and not old.changed
    assert RunningFisher().joined_by(new, gamma).diagonal == new.diagonal


def test_the_file_is_bfloat16_and_equal_values_give_equal_bytes(model: Path, tmp_path: Path) -> None:
    network, _ = load_model(model)
    torch.manual_seed(0)
    diagonal = {name: torch.rand_like(layer.weight) * 1e-9 for name, layer in adapted_layers(network)}
    RunningFisher(diagonal, ("manual", "Märchen")).save(tmp_path / FISHER)
    found = read_fisher(tmp_path, network)
    assert found.domains == ("manual", "Märchen") and not found.changed
    for name, value in diagonal.items():
        assert torch.allclose(found.diagonal[name], value, rtol=2**-8, atol=0)
    found.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / FISHER).read_bytes()
    with safe_open(tmp_path / FISHER, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in diagonal} == {torch.bfloat16}


@pytest.mark.slow
def test_f07_the_model_before_as_a_teacher_keeps_more_of_an_old_domain_of_which_little_is_remembered(
    copy_of: Callable[[str], Path], code_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three examples, again and again: learned by heart as text, but as a teacher's probabilities they say more."""
    found = {}
    for name, share in (("text", 0.0), ("taught", 0.9)):
        model = copy_of(name)
        memory = ReplayMemory.load(model / MEMORY, capacity=3)
        memory.add([], "manual")
        store = ModelStore.open(model)
        with store.staging() as staged:
            memory.save(staged / MEMORY)
            store.commit(staged, {"event": "less is remembered"})
        how = {"mode": "full", "replay_share": 0.5, "use_ewc": False, "steps": 100, "teacher_share": share}
        found[name] = teach(model, code_file, "code", **how)
    assert "50% of it replay, 90% of whose loss is the model before the lesson as a teacher" in capsys.readouterr().err
    assert lost(found["text"], "manual") > 0.1  # real forgetting, with replay
    assert lost(found["taught"], "manual") < 0.75 * lost(found["text"], "manual")
    assert lost(found["taught"], "code") < -0.3 and lost(found["text"], "code") < -0.3


def test_without_a_teacher_a_lesson_is_what_it_was(copy_of: Callable[[str], Path], sea: Path) -> None:
    weights = []
    for number, choices in enumerate(({}, {"teacher_share": 0.0}, {"teacher_share": 0.1})):
        result = teach(copy_of(str(number)), sea, "sea", mode="full", steps=2, use_ewc=False, **choices)
        weights.append((result.model / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_rows_without_a_teacher_are_learned_from_their_text_alone(base_model: Path) -> None:
    teacher, tokenizer = load_model(base_model)
    student, _ = load_model(base_model)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.1)
    ids = torch.tensor([tokenizer.encode("def read(self, size=-1):")[:9]] * 3)
    batch = Batch(ids[:, :-1], ids[:, 1:].clone(), weights=torch.tensor([[2.0], [1.0], [0.5]]))
    batch.labels[1, :2] = -100
    batch.sources = torch.tensor([0, 1, 0])
    with torch.no_grad():
        theirs, ours = (model(batch.input_ids).log_softmax(-1) for model in (teacher, student))
    expected = 0.0
    for row, place in torch.argwhere(batch.labels != -100).tolist():
        text = -ours[row, place, batch.labels[row, place]]
        soft = -(theirs[row, place].exp() * ours[row, place]).sum()
        loss = 0.3 * text + 0.7 * soft if row == 1 else text
        expected += float(loss) * [2.0, 1.0, 0.5][row]
    found = Distillation(teacher, [(BASE, 0.0), (BASE, 0.7)])(student, batch).item()
    assert found == pytest.approx(expected, rel=1e-4)
    assert Distillation(teacher, [(BASE, 0.0)] * 2)(student, batch).item() == pytest.approx(
        labelled_tokens(student, batch).item(), rel=1e-5
    )


def test_a_teacher_beside_an_adapter_is_refused(
    model: Path, code_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = ["learn", str(model), str(code_file), "--domain", "code", "--teacher-share", "0.5"]
    lesson += ["--max-bytes", "4000", "--precision", "fp32"]
    assert main([*lesson, "--mode", "adapter"]) == 2
    assert "Leave --teacher-share out" in capsys.readouterr().err
    assert main([*lesson, "--mode", "full", "--replay-share", "0", "--dry-run"]) == 0
    assert "no replay, so no teacher either" in capsys.readouterr().err
