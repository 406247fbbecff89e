"""The quickstart: interrupted, gone on with, whole; and what it leaves behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A short quickstart that was stopped by Ctrl-C during pretraining, and then run again."""
    out = tmp_path_factory.mktemp("quickstart") / "qs"
    command = [sys.executable, "-m", "lifelong.cli.app", "quickstart", "--out", str(out), "--minutes", "1.2"]
    # A shell gives processes that it starts in the background a SIGINT that is ignored; a terminal's is not.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **heeding)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "parameters, " in line:  # it has decided how long to train, and begins
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130, said
    assert f"lifelong quickstart --out {out}" in said
    again = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "[1/7]" not in again.stderr and "[3/7]" in again.stderr
    return out, json.loads(again.stdout)


def test_every_stage_learns(story: tuple[Path, dict[str, Any]]) -> None:
    _, result = story
    pretrain = result["pretrain"]
    # The machine's speed decides how many steps fit: a dozen on a slow one. How far fixed steps go, others test.
    assert pretrain["after"]["bits_per_byte"] < 0.97 * pretrain["before"]["bits_per_byte"]
    assert result["chat"]["judged_after"]["bits_per_byte"] < result["chat"]["judged_before"]["bits_per_byte"]
    for step in ("lesson", "naive"):
        domains, (*_, before, after) = (result[step]["matrix"][key] for key in ("domains", "bpb"))
        code = domains.index("code")
        assert after[code] < before[code]


def test_the_page_and_the_pictures_stand_alone(story: tuple[Path, dict[str, Any]]) -> None:
    out, result = story
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert page.count("<svg") >= 3 and "naive fine-tuning" in page
    for name in ("matrix", "pretrain", "chat", "lesson"):
        assert (out / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(result["report"]["answers"]) == 10
    assert {"unigram", "zlib", "xz"} <= result["report"]["baselines"]["prose"].keys()


def test_its_model_loads_in_transformers(story: tuple[Path, dict[str, Any]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = story[0] / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    assert model(**tokenizer("Return the name", return_tensors="pt")).logits.isfinite().all()


def test_run_again_it_says_what_exists(
    story: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["quickstart", "--out", str(story[0])]) == 0
    said = capsys.readouterr().err
    assert "This quickstart is finished" in said and "[1/7]" not in said
    (tmp_path / "mine.txt").write_text("not a quickstart")
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "never overwritten" in capsys.readouterr().err
