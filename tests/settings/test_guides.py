from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.settings.guides import translate
from lifelong.settings.load import SettingsFile, load_settings
from lifelong.settings.profiles import cost, load_profile, load_train_settings
from lifelong.settings.train import TrainSettings

# Names in a `training` section, our own, and values.
_NAMES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "micro_B": ("batch_size", st.integers(1, 512)),
    "accum_steps": ("gradient_accumulation_steps", st.integers(1, 64)),
    "total_steps": ("steps", st.integers(1, 10**6)),
    "learning_rate": ("optimizer.learning_rate", st.floats(1e-8, 1.0)),
    "weight_decay": ("optimizer.weight_decay", st.floats(0, 1.0)),
    "warmup_steps": ("schedule.warmup_steps", st.integers(0, 10**5)),
    "lr_scheduler": ("schedule.kind", st.sampled_from(["wsd", "cosine", "linear", "constant"])),
    "min_lr": ("schedule.min_lr", st.floats(0, 1.0)),
    "max_length": ("sequence_length", st.integers(1, 4096)),
    "seed": ("seed", st.integers(0, 2**31)),
}


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps(values, indent=1))
    return path


@hypothesis.settings(max_examples=60)
@given(
    chosen=st.fixed_dictionaries({}, optional={name: values for name, (_, values) in _NAMES.items()}),
    phase=st.sampled_from([None, "pretrain", "sft"]),
    dashes=st.booleans(),
)
def test_a_section_means_what_our_own_names_mean(
    tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, Any], phase: str | None, dashes: bool
) -> None:
    spelled = {name.replace("_", "-") if dashes else name: value for name, value in chosen.items()}
    section: dict[str, Any] = {phase: spelled} if phase else spelled
    path = write(tmp_path_factory.mktemp("guide"), {"training": section, "hardware": {"device": "cpu"}})
    own = {_NAMES[name][0]: value for name, value in chosen.items()}
    expected = load_settings(TrainSettings, None, {**own, "device": "cpu", "phase": phase or "pretrain"})
    assert load_train_settings(path) == expected


@given(st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), st.none() | st.booleans() | st.integers()))
def test_what_nobody_knows_is_refused_and_nothing_else_goes_wrong(values: dict[str, Any]) -> None:
    for section in ("model", "training", "monitoring", "hardware", "evaluation", "data"):
        source = SettingsFile(Path("a.yaml"), {section: values})
        try:
            read, _ = translate(TrainSettings, source, "pretrain")
            load_settings(TrainSettings, read)
        except LifelongError as error:
            assert error.where is None or error.where.startswith("a.yaml")
        else:
            assert (
                not values or section != "monitoring" or set(values) <= {"tensorboard", "wandb", "plots", "log_every"}
            )


@pytest.mark.parametrize(
    ("amp", "kind", "precision"),
    [
        (None, None, "auto"),
        (True, None, "auto"),
        (False, None, "fp32"),
        (False, "bf16", "fp32"),
        (True, "bf16", "bf16"),
        (True, "bfloat16", "bf16"),
        (True, "fp16", "fp16"),
        (None, "fp32", "fp32"),
    ],
)
def test_mixed_precision(tmp_path: Path, amp: bool | None, kind: str | None, precision: str) -> None:
    given_here = {key: value for key, value in (("amp", amp), ("amp_dtype", kind)) if value is not None}
    path = write(tmp_path, {"training": {"pretrain": given_here}})
    assert load_train_settings(path).precision == precision
    if given_here:
        assert load_train_settings(write(tmp_path, given_here)).precision == precision


@pytest.mark.parametrize(
    ("values", "line", "message"),
    [
        ({"training": {"sft": {"micro_C": 3}}}, 4, "'training.sft.micro_C'. Did you mean 'training.sft.micro_B'?"),
        ({"training": {"sft": 3}}, 3, "'training.sft' is a section"),
        ({"hardware": "cpu"}, 2, "'hardware' is a section"),
        ({"training": {"early_stopping": {"patiense": 3}}}, 4, "patiense"),
        ({"monitoring": {"wandb": {"projekt": "a"}}}, 4, "Did you mean 'tracking.wandb.project'?"),
        ({"model": {"d_model": 64}}, 3, "preset in a file"),
        ({"training": {"amp": True}, "precision": "bf16"}, 3, "given twice"),
        ({"steps": 3, "training": {"total_steps": 3}}, 4, "given twice, as 'steps' and as 'training.total_steps'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, values: dict[str, Any], line: int, message: str) -> None:
    path = write(tmp_path, values)
    with pytest.raises(LifelongError) as caught:
        load_train_settings(path)
    assert message in str(caught.value)
    assert caught.value.where == f"{path}:{line}"


def test_what_is_switched_off_needs_no_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = {"monitoring": {"wandb": {"enabled": False}}, "hardware": {"distributed": False}, "training": None}
    assert load_train_settings(write(tmp_path, off)) == TrainSettings()
    assert capsys.readouterr().err == ""


def test_a_profile_costs_in_proportion_to_its_tokens() -> None:
    settings = load_profile("dev").settings()
    one, two = cost(settings, 1e11), cost(settings.model_copy(update={"steps": 1200}), 2e11)
    assert one.tokens == 600 * 8 * 512 and two.tokens == 2 * one.tokens
    assert one.seconds is not None and one.seconds == pytest.approx(two.seconds)
    # 6 operations a weight and token (Kaplan et al. 2020), attention on top, at half speed.
    assert one.seconds > 6 * one.parameters * one.tokens / 0.5e11
    assert one.seconds_per_million * one.tokens / 1e6 == pytest.approx(one.seconds)
    longer = cost(load_profile("technical").settings(), 1e11)
    assert (longer.tokens, longer.seconds) == (None, None) and longer.parameters == 90_163_840
