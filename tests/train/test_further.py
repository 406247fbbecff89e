"""Training further from what runs and lessons leave: interrupted runs, checkpoints, adapters; new embedding rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from lifelong.errors import Interrupted
from lifelong.files import sha256_file
from lifelong.learn.ledger import read_matrix
from lifelong.learn.session import learn
from lifelong.model.directory import load_model
from lifelong.model.outside import with_rows
from lifelong.model.store import ModelStore
from lifelong.model.transformer import Transformer
from lifelong.settings.learn import LearnSettings
from lifelong.settings.model import ModelConfig
from lifelong.settings.train import OptimizerSettings, TrainSettings
from lifelong.train.run import resume, train
from lifelong.train.start import FURTHER_SHARE, Origin, choose_rate


@pytest.mark.slow
def test_training_further_is_resumed_bit_for_bit_with_its_matrix_row(
    text_file: Path,
    tokenizer_dir: Path,
    settings: TrainSettings,
    tmp_path: Path,
    interrupted_at: Any,
) -> None:
    outs = [tmp_path / "whole", tmp_path / "cut"]
    for out in outs:
        train([str(text_file)], out, settings.model_copy(update={"steps": 3}), tokenizer=tokenizer_dir)
    train([str(text_file)], outs[0], settings)
    with interrupted_at(5), pytest.raises(Interrupted):
        train([str(text_file)], outs[1], settings)
    resume(outs[1])
    assert len({sha256_file(out / "model.safetensors") for out in outs}) == 1
    matrices = [read_matrix(out).to_dict() for out in outs]
    assert matrices[0] == matrices[1] and matrices[0]["sessions"] == ["start", "base"]
    events = [ModelStore.open(out).history()[-1] for out in outs]
    assert [event["from"] for event in events] == ["further", "further"]


def test_an_interrupted_run_is_named_and_its_checkpoint_is_a_base_of_its_lineage(
    text_file: Path,
    tokenizer_dir: Path,
    settings: TrainSettings,
    tmp_path: Path,
    interrupted_at: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with interrupted_at(5), pytest.raises(Interrupted):
        train([str(text_file)], tmp_path / "cut", settings, tokenizer=tokenizer_dir)
    (checkpoint,) = (tmp_path / "cut").glob("runs/*/checkpoints/step-*")
    train([str(text_file)], tmp_path / "m", settings, base=checkpoint)
    assert "the highest the model was trained at here" in capsys.readouterr().err
    train([str(text_file)], tmp_path / "cut", settings, tokenizer=tokenizer_dir)
    assert f"`lifelong resume {checkpoint.parent.parent}` goes on with it" in capsys.readouterr().err


def test_what_an_adapter_learned_is_merged_and_the_matrix_goes_on(
    text_file: Path, tokenizer_dir: Path, settings: TrainSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    train([str(text_file)], out, settings, tokenizer=tokenizer_dir)
    choices = {"domain": "more", "steps": 3, "batch_size": 4, "sequence_length": 32, "max_bytes": 4000, "accept": True}
    learn(out, [str(text_file)], LearnSettings.build({**choices, "use_ewc": False, "mode": "adapter", "again": True}))
    taught, _ = load_model(out, adapter="more")
    still = settings.model_copy(
        update={"steps": 1, "optimizer": OptimizerSettings(learning_rate=1e-12, weight_decay=0.0)}
    )
    train([str(text_file)], out, still)
    assert "the adapter 'more' learned is merged" in capsys.readouterr().err
    after, _ = load_model(out)
    ids = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.allclose(taught(ids), after(ids), atol=1e-4)
    matrix = read_matrix(out)
    assert (matrix.domains, matrix.sessions) == (["base", "more"], ["start", "more", "base"])
    assert ModelStore.open(out).state()["adapters"] == []


@examples(max_examples=12)
@given(tied=st.booleans(), more=st.integers(1, 9), size=st.integers(5, 40))
def test_more_rows_leave_the_logits_of_the_others_as_they_were(tied: bool, more: int, size: int) -> None:
    shape = {"d_model": 16, "num_layers": 1, "num_query_heads": 2, "tie_embeddings": tied}
    model = Transformer(ModelConfig(vocab_size=size, **shape))
    wider = with_rows(model, size + more)
    ids = torch.arange(5)[None]
    with torch.no_grad():
        before, after = model(ids), wider(ids)
    assert torch.allclose(before, after[..., :size], atol=1e-5)
    # A mean of rows has the mean of their logits: never the likeliest.
    assert torch.allclose(after[..., size:], before.mean(-1, keepdim=True).expand(-1, -1, more), atol=1e-5)


@given(
    kind=st.sampled_from(["new", "base", "further"]),
    given_rate=st.none() | st.floats(1e-6, 1.0),
    peak=st.floats(1e-5, 1e-1),
    outside=st.booleans(),
)
def test_the_rate_follows_from_where_the_model_comes_from(
    kind: str, given_rate: float | None, peak: float, outside: bool
) -> None:
    origin = Origin(kind, "m", "base" if outside else None, peak)  # type: ignore[arg-type]
    rate, reason = choose_rate(OptimizerSettings(learning_rate=given_rate), origin)
    if given_rate is not None:
        assert (rate, reason) == (given_rate, "as given")
    elif kind == "new":
        assert rate == 3e-3
    else:
        assert rate == (1e-5 if outside else FURTHER_SHARE * peak)
