from __future__ import annotations

import subprocess
import sys

import pytest

from lifelong.cli.app import _VERBS, main

VERBS = [verb for verbs in _VERBS.values() for verb in verbs]
# What every help may import: nothing heavy.
HEAVY = ("torch", "numpy", "transformers", "tokenizers", "matplotlib", "safetensors")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from lifelong.cli.app import main; code = main();"
        f"assert not set(sys.modules) & set({HEAVY!r}), sorted(set(sys.modules) & set({HEAVY!r})); sys.exit(code)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_the_first_help_lists_all_verbs_and_imports_none() -> None:
    code = (
        "import sys; from lifelong.cli.app import main; main(['--help']);"
        "found = {n for n in sys.modules if n.startswith('lifelong.cli.')};"
        "assert found == {'lifelong.cli.app'}, found;"
        "assert 'pydantic' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for verb in VERBS:
        assert verb in result.stdout


_BELOW = ("tokenizer train", "tokenizer show", "cache build", "cache build-all", "cache show", "cache mix")


@pytest.mark.parametrize("verb", [*VERBS, *_BELOW])
def test_every_verb_explains_itself_without_heavy_imports(verb: str) -> None:
    result = run(*verb.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert f"Usage: lifelong {verb}" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("verb", ["prepare", "tokenizer train", "train", "learn", "evaluate", "generate", "chat"])
def test_every_verb_with_settings_takes_a_file_and_names_defaults(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert "[default:" in text


def test_help_of_nested_settings_has_groups_descriptions_and_short_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("Optimizer", "Schedule", "--optimizer.learning-rate", "--learning-rate FLOAT", "--schedule.kind"):
        assert part in text
    assert "--empty" not in text
    assert "--no-fresh" not in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from lifelong.version import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "quickstart" in capsys.readouterr().out
