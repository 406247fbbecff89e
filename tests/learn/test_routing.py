"""Adapters that route themselves: what is measured is what is generated, and no document gets dearer than promised."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.evaluate.bits import score
from lifelong.evaluate.routing import bound_bits, mixture
from lifelong.generate.engine import generate
from lifelong.generate.reading import Reader
from lifelong.learn.held import read_slices
from lifelong.model.adapters import merge_adapter
from lifelong.model.directory import load_model
from lifelong.model.experts import all_experts
from lifelong.text.document import Document
from lifelong.text.memory import ReplayMemory


@given(st.lists(st.lists(st.floats(0.01, 20), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_mixture_costs_at_most_the_log_of_the_experts_more_than_the_best(rows: list[list[float]]) -> None:
    experts = [np.array(row) for row in rows]
    losses, likeliest = mixture(experts)
    best = min(row.sum() for row in experts)
    assert losses.sum() <= best + math.log(len(experts)) + 1e-9
    # The whole is the average of the experts' probabilities of the whole document.
    whole = -np.log(np.mean([np.exp(-row.sum()) for row in experts]))
    assert losses.sum() == pytest.approx(whole, abs=1e-6)
    assert likeliest[0] == 0 and (likeliest < len(experts)).all()


def test_no_document_gets_dearer_than_the_bound(taught: Path) -> None:
    model, tokenizer = load_model(taught)
    base, _ = load_model(taught, adapter="base")
    for domain, documents in read_slices(taught, ["manual", "code", "sea"], "test").items():
        few = documents[:12]
        routed, alone = (score(one, tokenizer, few, sequence_length=64) for one in (model, base))
        for (now, _), (before, _) in zip(routed.documents, alone.documents, strict=True):
            assert (now - before) / math.log(2) <= bound_bits(3) + 1e-4, domain
        assert set(routed.experts) == {"base", "code", "sea"}
        assert routed.experts["base"].nats == pytest.approx(alone.nats, rel=1e-5)
        best = min(routed.experts.values(), key=lambda found: found.nats)
        assert routed.bits_per_byte <= best.bits_per_byte * 1.02
        if domain != "manual":  # the adapter of the domain is the one that answers, and it has learned
            assert best is routed.experts[domain]
            assert routed.bits_per_byte < alone.bits_per_byte - 0.05


def test_what_is_generated_is_what_is_measured(taught: Path) -> None:
    """Reading token by token, with all experts in one batch, gives the mixture that the scores are made of."""
    model, tokenizer = load_model(taught)
    document = read_slices(taught, ["code"], "test")["code"][0]
    ids = [tokenizer.eos_id, *tokenizer.encode(document.text)][:60]
    few = replace(document, text=tokenizer.decode(ids[1:]))
    expected = score(model, tokenizer, [few], sequence_length=64).nats
    again = [tokenizer.eos_id, *tokenizer.encode(few.text)]
    total = score(model, tokenizer, [replace(document, text=tokenizer.decode(again[1:10]))], sequence_length=64).nats
    with torch.inference_mode(), Reader(model, 1, len(again)) as reader:
        scores = reader.read(torch.tensor([again[:10]]))
        for token in again[10:]:
            total -= float(scores.log_softmax(-1)[0, token])
            scores = reader.read(torch.tensor([[token]]))
    assert total == pytest.approx(expected, rel=1e-3)


def test_all_experts_at_once_compute_what_each_computes_alone(taught: Path) -> None:
    routed, tokenizer = load_model(taught)
    ids = torch.tensor([tokenizer.encode("def read(self, size):\n    return")])
    with torch.inference_mode(), all_experts(routed) as count:
        together = routed(ids.repeat(count, 1))
    for number, name in enumerate(["base", "code", "sea"]):
        one, _ = load_model(taught, adapter=name)
        with torch.inference_mode():
            assert torch.allclose(together[number], one(ids)[0], atol=1e-4)
        if name != "base":
            merge_adapter(one)
            with torch.inference_mode():
                assert torch.allclose(together[number], one(ids)[0], atol=1e-4)


def test_a_routed_model_writes_and_repeats_itself_by_seed(taught: Path) -> None:
    model, tokenizer = load_model(taught)
    texts = generate(model, tokenizer, "Line 7: the sea is", max_tokens=12, seed=3, num_samples=2)
    assert texts == generate(model, tokenizer, "Line 7: the sea is", max_tokens=12, seed=3, num_samples=2)
    assert "miles" in generate(model, tokenizer, "Line 8: the sea is", max_tokens=12, temperature=0)[0]
    assert all(
        layer.adapter is None
        for _, layer in __import__("lifelong.model.adapters", fromlist=["x"]).adapted_layers(model)
    )


def test_the_memory_remembers_importance(tmp_path: Path) -> None:
    memory = ReplayMemory(10)
    memory.add([Document(f"text {n}", "s", str(n), weight=4.0 if n < 3 else 1.0) for n in range(40)], "d")
    memory.save(tmp_path / "m.jsonl")
    assert {d.weight for d in ReplayMemory.load(tmp_path / "m.jsonl").documents()} == {1.0, 4.0}
