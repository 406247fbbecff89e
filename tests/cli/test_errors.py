from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from lifelong.cli import app
from lifelong.cli.app import main
from lifelong.errors import Interrupted, LifelongError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], 'Did you mean "train"?'),
        (["train", "--data", "x", "--out", "y", "--lerning-rate", "3"], "Did you mean --learning-rate?"),
        (["train", "--data", "x", "--out", "y", "--optimiser.learning-rate", "3"], "--optimizer.learning-rate?"),
        (["train", "--data", "x"], "--out"),
        (["train", "--data", "x", "--out", "y", "--batch-size", "many"], "--batch-size"),
        (["train", "--data", "x", "--out", "y", "--batch-size", "0"], "greater than 0"),
        (["train", "--data", "x", "--out", "y", "--phase", "pretrian"], "pretrain"),
        (["train", "--data", "x", "--out", "y", "--steps", "3", "--epochs", "2"], "only one of"),
        (["learn", "model"], "requires an argument"),
        (["tokenizer", "tran"], 'Did you mean "train"?'),
        (["presets", "--tokenizer", "no-such-place"], "no-such-place"),
        (["generate", "model"], "--prompt"),
        (["chat", "model", "--json"], "--message"),
        (["quickstart", "--minutes", "0"], "leaves no time"),
        (["pipeline", "--steps", "5"], "--pretrain steps=VALUE, --sft steps=VALUE. --epochs N bounds both."),
        (["pipeline", "--batch-size=5"], "--batch-size. It is a setting of each training: --pretrain batch_size=VALUE"),
        (["pipeline", "--vocab-sice", "5"], "Unknown option: --vocab-sice. Did you mean --vocab-size?"),
    ],
)
def test_a_wrong_command_exits_2_with_a_message_and_no_traceback(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lifelong: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [["pipeline", "--bogus"], ["report", "model", "--title", "x"], ["verify", "--steps", "5"]]
)
def test_an_option_that_is_near_none_gets_no_suggestion(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Did you mean" not in capsys.readouterr().err


def test_an_unknown_setting_in_a_file_names_line_and_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("batch_size: 2\nschedule:\n  warmup_step: 3\n")
    for verb in (["train", "--data", "x", "--out", "y"], ["learn", "model", "x"], ["prepare", "x", "--out", "y"]):
        assert main([*verb, "--config", str(config)]) == 2
        err = capsys.readouterr().err
        assert "unknown setting" in err
        assert str(config) in err
    assert main(["train", "--data", "x", "--out", "y", "--config", str(config)]) == 2
    assert f"{config}:3: unknown setting 'schedule.warmup_step'. Did you mean" in capsys.readouterr().err


def _verb_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def presets() -> None:
        raise error

    module = types.ModuleType("lifelong.cli.presets")
    module.presets = presets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lifelong.cli.presets", module)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LifelongError("it broke", where="a.txt:3", fix="Mend it."), 2, "lifelong: a.txt:3: it broke\n  Mend it.\n"),
        (Interrupted("stopped", fix="lifelong resume run"), 130, "lifelong: stopped\n  lifelong resume run\n"),
        (
            KeyboardInterrupt(),
            130,
            "lifelong: interrupted; nothing was left half done\n  Run the same command again.\n",
        ),
        (
            ModuleNotFoundError("no", name="starlette.routing"),
            2,
            "lifelong: starlette.routing is not installed\n  pip install 'lifelong[serve]'\n",
        ),
        (
            ModuleNotFoundError("no", name="onnxruntime_genai"),
            2,
            "lifelong: onnxruntime_genai is not installed\n  pip install 'lifelong[export]'\n",
        ),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _verb_that_raises(monkeypatch, error)
    assert main(["presets"]) == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("error", [ModuleNotFoundError("no", name="not_ours"), ValueError("a bug")])
def test_our_own_mistakes_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    _verb_that_raises(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["presets"])


def test_a_reader_that_closes_early_is_no_error() -> None:
    script = f"{sys.executable} -m lifelong.cli.app presets --json | head -c 1"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[", "")


def test_every_extra_has_an_install_command() -> None:
    assert app._extra_of("datasets.arrow_dataset") == "hub"
    assert app._extra_of("lancedb") == "rag"
    assert app._extra_of("torch") is None


def test_a_text_too_short_to_hold_some_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.txt").write_text("one word " * 6)
    assert main(["evaluate", "model", "--data", str(tmp_path / "t.txt")]) == 2
    said = capsys.readouterr().err
    assert "the test split of this text is empty: 54 bytes in 1 document are too little" in said
    assert "--split train" in said and "more than 8,000 bytes" in said
