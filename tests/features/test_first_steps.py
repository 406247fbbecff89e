"""What a newcomer meets: commands as the guides spell them, estimates before long work, and common mistakes."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import shutil
from pathlib import Path

import pytest

from lifelong.cli.app import main
from lifelong.train import deciding

SMALL = """\
name: small-test
description: for tests
reference_vocab_size: 400
model: {d_model: 32, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""
QUICK = ["--steps", "2", "--batch-size", "4", "--sequence-length", "32", "--threads", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("newcomer")
    (place / "small.yaml").write_text(SMALL)
    texts = sorted(topics.topics.items())[:40]
    (place / "text.txt").write_text("\n\n".join(text[:1500] for _, text in texts))
    rows = [{"question": f"What is said of {name}?", "answer": text[:300]} for name, text in texts]
    (place / "qa.json").write_text(json.dumps(rows))
    return place


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """A model trained with the flags of guide B."""
    out = place / "model"
    command = ["train", "--data-file", str(place / "text.txt"), "--output-dir", str(out)]
    assert main([*command, "--preset", str(place / "small.yaml"), *QUICK]) == 0
    return out


def test_f14_train_takes_the_flags_of_guide_b_and_names_the_next_steps(
    place: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", str(place / "qa.json"), "--out", str(trained), "--phase", "sft", *QUICK]) == 0
    assert f"Next: lifelong chat {trained}; teach it more: lifelong learn {trained}" in capsys.readouterr().err


def test_f41_a_dry_run_estimates_a_step_that_takes_long_and_prints_no_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "_LONG_STEP_SECONDS", 0.0)  # every step is long
    command = ["train", "--data", str(place / "text.txt"), "--out", str(tmp_path / "m"), "--dry-run"]
    command += ["--preset", str(place / "small.yaml"), *QUICK]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "A step takes about" in said.err and "2 steps of 4 x 32 tokens" in said.err
    assert said.out == "" and not (tmp_path / "m").exists()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2


def test_f43_a_top_p_of_0_considers_all_tokens_as_in_guide_e(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for top_p in ("0.0", "1"):
        command = ["generate", str(trained), "--prompt", "The", "--max-tokens", "8", "--seed", "42", "--json"]
        assert main([*command, "--top-p", top_p, "--top-k", "0"]) == 0
        texts.append(json.loads(capsys.readouterr().out))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "text.txt", "--out", "new", "--preset", "nanno"], "Did you mean 'nano'?"),
        (["train", "--data", "text.txt", "--out", "new", "--phase", "sft"], "text.txt: there are no conversations"),
        (["history", "."], "`lifelong train --out DIR` makes a model."),
    ],
)
def test_a_mistake_is_named_before_any_work(
    place: Path,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said and "training one on this text" not in said and not Path("new").exists()


def test_f18_a_named_adapter_is_made_and_the_next_steps_are_said(
    place: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m"
    shutil.copytree(trained, model)
    words = [text[1500:3000] for _, text in sorted(topics.topics.items()) if len(text) > 3000]
    (tmp_path / "more.txt").write_text("\n\n".join(words))
    lesson = ["learn", str(model), str(tmp_path / "more.txt"), "--domain", "questions", "--adapter-name", "answers"]
    assert main([*lesson, "--accept", *QUICK]) == 0
    said = capsys.readouterr().err
    assert "Method: a new adapter (an adapter is named)." in said
    assert f"Next: lifelong matrix {model}; undo it: lifelong rollback {model}" in said
    # No figure is cut short, however narrow a file or a pipe is said to be.
    assert main(["evaluate", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "answers alone" in shown and "perplexity" in shown and "…" not in shown
    assert main(["rollback", str(model)]) == 0
    assert "(questions). The model is as it was before it" in capsys.readouterr().out


def test_f28_prepare_names_the_next_step(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    assert main(["prepare", str(place / "text.txt"), "--out", str(out), "--vocab-size", "400"]) == 0
    assert f"Written to {out}\nNext: lifelong train --data {out} --out" in capsys.readouterr().out
