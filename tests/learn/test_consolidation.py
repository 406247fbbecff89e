"""Consolidation: one set of plain weights that knows what the adapters knew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lifelong.errors import LifelongError
from lifelong.learn.consolidation import consolidate
from lifelong.learn.distil import Distillation
from lifelong.learn.folded import Consolidation
from lifelong.learn.ledger import read_history, rollback
from lifelong.model.directory import load_model
from lifelong.model.store import ModelStore
from lifelong.settings.consolidate import ConsolidateSettings
from lifelong.tokens.loader import Batch


def test_f08_consolidation_makes_plain_weights_that_know_all_domains(taught: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(taught, model)
    settings = ConsolidateSettings.build({"steps": 160, "batch_size": 8, "sequence_length": 64, "max_bytes": 20000})
    settings = settings.model_copy(update={"tolerance": 0.05})
    result = consolidate(model, settings)
    assert isinstance(result, Consolidation) and result.accepted, result
    matrix = result.matrix
    at = {name: matrix.domains.index(name) for name in ("manual", "code", "sea")}
    start, routed, now = ([cell or 0.0 for cell in matrix.bpb[row]] for row in (0, -2, -1))
    for name in ("code", "sea"):  # better than the base that never saw the domain, by most of what its adapter gained
        first = next(row[at[name]] for row in matrix.bpb if row[at[name]] is not None)
        gained, kept = first - routed[at[name]], first - now[at[name]]
        assert gained > 0.05 and kept > 0.7 * gained, name
    assert now[at["manual"]] < start[at["manual"]] * 1.05
    assert ModelStore.open(model).adapters() == [] and not list((model / "lifelong").glob("adapters/*"))
    plain, _ = load_model(model)
    assert plain.experts is None
    with pytest.raises(LifelongError, match="no adapters"):
        consolidate(model, settings)
    rollback(model)
    assert ModelStore.open(model).adapters() == ["code", "sea"]
    assert [event["event"] for event in read_history(model)][-2:] == ["consolidation", "rollback"]


def test_a_consolidation_that_loses_a_domain_is_undone(taught: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(taught, model)
    before = (model / "model.safetensors").read_bytes()
    settings = ConsolidateSettings.build(
        {"steps": 3, "batch_size": 4, "sequence_length": 64, "max_bytes": 8000, "tolerance": 0.0}
    )
    result = consolidate(model, settings)
    assert isinstance(result, Consolidation) and not result.accepted
    assert (model / "model.safetensors").read_bytes() == before
    assert ModelStore.open(model).adapters() == ["code", "sea"]
    assert read_history(model)[-1]["accepted"] is False


def test_the_loss_is_that_of_text_and_teacher_together(taught: Path) -> None:
    teacher, tokenizer = load_model(taught)
    student, _ = load_model(taught, adapter="base")
    ids = torch.tensor([tokenizer.encode("def read(self, size=-1):")[:9]] * 2)
    batch = Batch(ids[:, :-1], ids[:, 1:].clone(), sources=torch.tensor([0, 1]))
    batch.labels[0, :2] = -100
    objective = Distillation(teacher, [("code", 0.25), ("base", 0.25)])
    expected = 0.0
    for row, name in enumerate(["code", "base"]):
        one, _ = load_model(taught, adapter=name)
        with torch.no_grad():
            theirs = one(batch.input_ids[row : row + 1])[0].log_softmax(-1)
            ours = student(batch.input_ids[row : row + 1])[0].log_softmax(-1)
        for place, label in enumerate(batch.labels[row].tolist()):
            if label != -100:
                soft = -(theirs[place].exp() * ours[place]).sum()
                expected += float(0.75 * -ours[place, label] + 0.25 * soft)
    assert objective(student, batch).item() == pytest.approx(expected, rel=1e-4)
