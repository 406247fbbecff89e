from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.settings.learn import LearnSettings
from lifelong.settings.load import load_settings
from lifelong.settings.train import TrainSettings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def failure(config: Path | None, overrides: dict[str, object] | None = None) -> LifelongError:
    with pytest.raises(LifelongError) as caught:
        load_settings(TrainSettings, config, overrides)
    return caught.value


def test_defaults_are_those_of_the_guides() -> None:
    train, learn = load_settings(TrainSettings), load_settings(LearnSettings)
    assert (train.epochs, train.batch_size, train.gradient_accumulation_steps) == (10.0, 8, 1)
    assert (train.sequence_length, train.device, train.preset) == (None, "auto", "tiny")
    assert (learn.domain, learn.adapter_name, learn.epochs, learn.lora_rank) == ("general", None, 3.0, 8)
    assert (learn.lora_alpha, learn.lora_dropout, learn.replay_buffer_size) == (16.0, 0.05, 1000)
    assert (learn.use_ewc, learn.ewc_lambda) == (True, 1000.0)


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    config = write(
        tmp_path / "a.yaml",
        "batch-size: 4\nlearning_rate: 1e-4\noptimizer:\n  name: adamw\nschedule:\n  # all default\n",
    )
    settings = load_settings(TrainSettings, config, {"optimizer.learning_rate": 0.5, "seed": 3})
    assert (settings.batch_size, settings.seed, settings.phase) == (4, 3, "pretrain")
    assert (settings.optimizer.name, settings.optimizer.learning_rate) == ("adamw", 0.5)
    assert load_settings(TrainSettings, config).optimizer.learning_rate == 1e-4


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    values = {"steps": 7, "optimizer": {"betas": [0.8, 0.9]}, "max_seq_len": 64}
    as_json = write(tmp_path / "a.json", json.dumps(values, indent="\t"))
    as_yaml = write(tmp_path / "a.yaml", yaml.safe_dump(values))
    settings = load_settings(TrainSettings, as_json)
    assert settings == load_settings(TrainSettings, as_yaml) == load_settings(TrainSettings, None, values)
    assert (settings.sequence_length, settings.epochs, settings.optimizer.betas) == (64, None, (0.8, 0.9))


def test_one_length_wins_over_the_file_s_other(tmp_path: Path) -> None:
    config = write(tmp_path / "a.yaml", "epochs: 5\n")
    settings = load_settings(TrainSettings, config, {"steps": 3})
    assert (settings.epochs, settings.steps, settings.minutes) == (None, 3, None)
    error = failure(None, {"steps": 3, "minutes": 1})
    assert "only one of epochs, steps, minutes" in error.what


@hypothesis.settings(max_examples=30)  # each writes a file durably
@given(
    steps=st.none() | st.integers(1, 10**6),
    rate=st.none() | st.floats(1e-9, 1.0),
    compiled=st.sampled_from(["auto", "on", "off"]),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
)
def test_resolved_settings_reproduce_themselves(
    tmp_path_factory: pytest.TempPathFactory, steps: int | None, rate: float | None, compiled: str, name: str
) -> None:
    given_here = {"steps": steps, "learning_rate": rate, "compile": compiled, "domain": name}
    settings = load_settings(TrainSettings, None, given_here)
    path = tmp_path_factory.mktemp("resolved") / "resolved_settings.yaml"
    settings.to_yaml(path)
    assert load_settings(TrainSettings, path) == settings


def test_a_bare_on_is_not_a_truth_value(tmp_path: Path) -> None:
    assert load_settings(TrainSettings, write(tmp_path / "a.yaml", "compile: on\n")).compile == "on"


@pytest.mark.parametrize(
    ("text", "line", "key", "near"),
    [
        ("batch_size: 4\noptimizer:\n  learning_rte: 1\n", 3, "optimizer.learning_rte", "optimizer.learning_rate"),
        ("batchsize: 4\n", 1, "batchsize", "batch_size"),
        ("\n\nkind: cosine\n", 3, "kind", "schedule.kind"),
        ("optimizer:\n  warmup_steps: 3\n", 2, "optimizer.warmup_steps", "schedule.warmup_steps"),
        ("schedule: {kind: wsd, decay: 1}\n", 1, "schedule.decay", "schedule.decay_fraction"),
    ],
)
def test_an_unknown_setting_names_line_and_nearest_key(
    tmp_path: Path, text: str, line: int, key: str, near: str
) -> None:
    path = write(tmp_path / "a.yaml", text)
    error = failure(path)
    assert error.where == f"{path}:{line}"
    assert error.what == f"unknown setting '{key}'. Did you mean '{near}'?"


def test_settings_made_by_name_explain_what_does_not_fit() -> None:
    with pytest.raises(LifelongError, match=r"^unknown setting 'lora_rnk'. Did you mean 'lora_rank'\?$"):
        LearnSettings(lora_rnk=8)
    with pytest.raises(
        LifelongError, match=r"^unknown setting 'optimizer.learnin_rate'. Did you mean 'optimizer.learning_rate'"
    ):
        TrainSettings(optimizer={"learnin_rate": 0.1})
    with pytest.raises(LifelongError) as error:
        LearnSettings(tolerance=-3, lora_rank="x")
    assert "'tolerance'" in str(error.value) and "'lora_rank'" in str(error.value)


def test_unknown_setting_in_json_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{\n  "seed": 1,\n  "epoch": 2\n}\n')
    error = failure(path)
    assert (error.where, error.what) == (f"{path}:3", "unknown setting 'epoch'. Did you mean 'epochs'?")


def test_all_wrong_values_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "batch_size: many\nschedule:\n  decay_fraction: 2\nlearning_rate: -1\n")
    error = failure(path)
    assert error.where == f"{path}:1"
    assert "'batch_size'" in error.what and "'many'" in error.what
    assert f"{path}:3: setting 'schedule.decay_fraction'" in error.what
    assert f"{path}:4: setting 'optimizer.learning_rate'" in error.what


def test_a_wrong_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    error = failure(write(tmp_path / "a.yaml", "seed: 3\n"), {"seed": -1})
    assert error.where is None and "'seed'" in error.what


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("a.yaml", "", ":1", "is empty"),
        ("a.yaml", "# only a comment\n", ":1", "found nothing"),
        ("a.yaml", "just words\n", ":1", "found a single text"),
        ("a.yaml", "- a\n- b\n", ":1", "found a list"),
        ("a.yaml", "seed: 1\nsteps: [1\nepochs: 2\n", ":3", "not valid YAML"),
        ("a.yaml", "seed: 1\n\tsteps: 2\n", ":2", "not valid YAML"),
        ("a.yaml", "seed: 1\nseed: 2\n", ":2", "given twice (first in line 1)"),
        ("a.yaml", "learning_rate: 1\noptimizer:\n  learning_rate: 2\n", ":3", "given twice"),
        ("a.yaml", "optimizer: 3\n", ":1", "setting 'optimizer'"),
        ("a.yaml", "domain: !!python/object:os.system x\n", ":1", "not valid YAML"),
        ("a.json", '{"seed": 1,\n"steps" 2}', ":2", "not valid JSON"),
        ("a.json", "[1]", ":1", "found a list"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, name: str, text: str, line: str, message: str) -> None:
    path = write(tmp_path / name, text)
    error = failure(path)
    assert message in error.what
    assert error.where == f"{path}{line}"


def test_a_missing_file_a_folder_and_a_binary_file(tmp_path: Path) -> None:
    assert "not found" in failure(tmp_path / "none.yaml").what
    assert "directory" in failure(tmp_path).what
    binary = tmp_path / "a.yaml"
    binary.write_bytes(b"seed: 1\nname: \xff\xfe\n")
    error = failure(binary)
    assert error.where == f"{binary}:2" and "UTF-8" in error.what


def test_settings_are_built_flat_in_python_too() -> None:
    settings = TrainSettings.build({"learning_rate": 0.1, "max_seq_len": 32, "steps": 2})
    assert (settings.optimizer.learning_rate, settings.sequence_length, settings.epochs) == (0.1, 32, None)


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 65, "two words"])
def test_a_domain_names_a_folder_and_nothing_above_it(name: str) -> None:
    assert "names a folder" in failure(None, {"domain": name}).what
    with pytest.raises(LifelongError, match="adapter_name"):
        load_settings(LearnSettings, None, {"adapter_name": name})
