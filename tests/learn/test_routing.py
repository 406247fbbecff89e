"""Adapters that route themselves: what is measured is what is generated, and no document gets dearer than promised."""

from __future__ import annotations

import json
import math
import pydoc_data.topics as topics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifelong.cli.app import main
from lifelong.errors import LifelongError
from lifelong.evaluate.bits import score
from lifelong.evaluate.routing import Panel, bound_bits, fixed_share_bits, mixture, read_experts
from lifelong.evaluate.windows import Scored
from lifelong.generate.engine import generate
from lifelong.generate.reading import Reader
from lifelong.learn.held import read_slices
from lifelong.model.adapters import merge_adapter
from lifelong.model.decoding import StaticDecoder
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


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_what_is_generated_is_what_is_measured(taught: Path, share: float) -> None:
    """Reading token by token, with all experts in one batch, gives the mixture that the scores are made of."""
    model, tokenizer = load_model(taught)
    code, sea = (read_slices(taught, [name], "test")[name][0] for name in ("code", "sea"))
    parts = [tokenizer.decode(tokenizer.encode(part.text)[:28]) for part in (code, sea)]
    few = replace(code, text="\n".join(parts))

    def nats(document: Document) -> float:
        return score(model, tokenizer, [document], sequence_length=64, fixed_share=share).nats

    again = [tokenizer.eos_id, *tokenizer.encode(few.text)]
    total = nats(replace(code, text=tokenizer.decode(again[1:10])))
    with torch.inference_mode(), Reader(model, 1, len(again), fixed_share=share) as reader:
        scores = reader.begin([again[:10]])
        for token in again[10:]:
            total -= float(scores.log_softmax(-1)[0, token])
            scores = reader.go_on([token])
    assert total == pytest.approx(nats(few), rel=1e-3)


def test_fixed_share_follows_changes_of_topic_that_the_plain_mixture_misses(taught: Path) -> None:
    """A document glued from code, the sea, and code again; measured in bits per byte, and beside its best sequence."""
    model, tokenizer = load_model(taught)
    texts = {}
    for name, found in read_slices(taught, ["code", "sea"], "test").items():
        texts[name] = tokenizer.encode("\n\n".join(document.text for document in found))
    parts = [("code", texts["code"][:192]), ("sea", texts["sea"][:192]), ("code", texts["code"][192:384])]
    ids = [tokenizer.eos_id, *(token for _, part in parts for token in part)]
    panel = Panel([Scored(ids, [False] + [True] * (len(ids) - 1))], 64)
    read_experts(model, panel)
    plain, shared = (panel.tallies(fixed_share=share)[0].nats for share in (0.0, 0.01))
    alone = min(panel.tallies([name])[0].nats for name in panel.readings)
    at, sequence = 0, 0.0
    for name, part in parts:
        sequence += float(panel.readings[name][0][0][at : at + len(part)].sum())
        at += len(part)
    size = len(tokenizer.decode(ids[1:]).encode())
    assert (plain - shared) / math.log(2) / size > 0.05
    assert shared < alone  # better than any one expert: what the plain mixture cannot promise
    assert shared <= sequence + fixed_share_bits(3, at, 0.01, changes=2) * math.log(2) + 1e-6
    # The same through the public score, of the glued text as a document.
    glued = Document(tokenizer.decode(ids[1:]), "glued", "0")
    before, after = (score(model, tokenizer, [glued], sequence_length=64, fixed_share=share) for share in (0.0, 0.01))
    assert after.bits_per_byte < before.bits_per_byte - 0.05


def test_with_fixed_share_no_document_gets_dearer_than_its_own_bound(taught: Path) -> None:
    model, tokenizer = load_model(taught)
    documents = [
        found for some in read_slices(taught, ["manual", "code", "sea"], "test").values() for found in some[:6]
    ]
    found = score(model, tokenizer, documents, sequence_length=64, fixed_share=0.05)
    assert found.excess is not None and found.excess.whole and len(found.excess.bits) == len(documents)
    for bits, tokens in zip(found.excess.bits, found.excess.tokens, strict=True):
        assert bits <= fixed_share_bits(3, tokens, 0.05) + 1e-9
    alone = [[nats for nats, _ in one.documents] for one in found.experts.values()]
    best = math.fsum(min(nats) for nats in zip(*alone, strict=True))
    assert found.oracle_bits_per_byte == pytest.approx(best / math.log(2) / found.bytes)


@pytest.mark.parametrize("top", [1, 2])
def test_experts_that_are_dropped_are_computed_no_more_and_the_others_go_on_as_they_would(
    taught: Path, top: int
) -> None:
    model, tokenizer = load_model(taught)
    ids = [tokenizer.eos_id, *tokenizer.encode("Line 7: the sea is")]
    texts, following = [ids, [*ids, 60]], [70, 80]
    computed: list[int] = []
    layer = next(module for name, module in model.named_modules() if name.endswith("layers.0.mlp"))
    hook = layer.register_forward_pre_hook(lambda _, inputs: computed.append(len(inputs[0])))
    with torch.inference_mode(), Reader(model, 2, 40, top_experts=top) as reader:
        reader.begin(texts)
        kept = list(reader.weights(0))
        found = reader.go_on(following).log_softmax(-1)
        assert sum(reader.weights(1).values()) == pytest.approx(1)
        assert isinstance(reader._decoder, StaticDecoder)
        assert all(len(part) == top for part in reader._decoder.keys + reader._decoder.values)
    hook.remove()
    # The prompts, and the losses of each, by 3 experts; then only those that are kept.
    assert computed == [6, 3, 3, 2 * top]
    assert "sea" in kept and len(kept) == top
    with torch.inference_mode(), Reader(model, 2, 40) as everyone:
        everyone.begin(texts)
        everyone.go_on(following)
        assert everyone._last is not None
        numbers = [["base", "code", "sea"].index(name) for name in kept]
        weights = everyone._evidence[numbers].log_softmax(0).unsqueeze(-1)
        expected = (everyone._last[numbers] + weights).logsumexp(0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_setting_out_of_range_is_refused_and_a_prompt_that_tells_nothing_keeps_the_base(taught: Path) -> None:
    model, tokenizer = load_model(taught)
    for settings in ({"fixed_share": 1.0}, {"top_experts": 0}):
        with pytest.raises(LifelongError):
            generate(model, tokenizer, "x", **settings)  # type: ignore[arg-type]
    found: list[dict[str, float]] = []
    generate(model, tokenizer, "", max_tokens=3, top_experts=1, on_experts=found.append)
    assert found == [{"base": 1.0}]


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_f10_generate_says_who_answered_and_can_go_on_with_the_likeliest_alone(
    taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = ["generate", taught, "--prompt", "Line 7: the sea is", "--max-tokens", 12, "--seed", 3]
    routed = told(capsys, *prompt, "--num-samples", 2)
    for weights in routed["experts"]:
        assert list(weights) == ["base", "code", "sea"] and sum(weights.values()) == pytest.approx(1)
        assert weights["sea"] > 0.9
    for how in (["--temperature", 0], ["--num-samples", 2]):
        one, alone = (told(capsys, *prompt, *how, *which) for which in (["--top-experts", 1], ["--adapter", "sea"]))
        assert one["texts"] == alone["texts"] and one["experts"] == [{"sea": 1.0}] * len(one["texts"])
        assert "experts" not in alone
    two = told(capsys, *prompt, "--top-experts", 2, "--fixed-share", 0.05)["experts"][0]
    assert len(two) == 2 and two["base" if "base" in two else "code"] > 1e-3  # the share keeps the other one alive
    assert main([*map(str, prompt), "--adapter", "sea", "--top-experts", "2", "--fixed-share", "0.1"]) == 0
    assert "--fixed-share and --top-experts without effect" in capsys.readouterr().err
    for wrong in (["--top-experts", "0"], ["--fixed-share", "1"], ["--fixed-share", "-0.1"]):
        assert main([*map(str, prompt), *wrong]) == 2
        assert wrong[0].strip("-").replace("-", "_") in capsys.readouterr().err


def test_f43_chat_can_go_on_with_the_likeliest_experts_alone(taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["chat", taught, "--message", "Line 7: the sea is", "--max-tokens", 8, "--temperature", 0]
    routed, two = told(capsys, *question), told(capsys, *question, "--top-experts", 2, "--fixed-share", 0.01)
    assert len(routed["experts"]) == 3 and len(two["experts"]) == 2
    (name,) = told(capsys, *question, "--top-experts", 1)["experts"]
    assert name in two["experts"]
    assert told(capsys, *question, "--adapter", name)["answer"] == told(capsys, *question, "--top-experts", 1)["answer"]


def test_f12_evaluate_shows_every_expert_alone_and_what_routing_can_cost(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["evaluate", taught, "--sequence-length", 64, "--max-bytes", 3000]
    plain = told(capsys, *few)
    assert set(plain["experts"]) == {"base", "code", "sea"}
    assert plain["oracle_bits_per_byte"] <= plain["bits_per_byte"] < min(plain["experts"].values())
    assert plain["routing"]["bound_bits"] == pytest.approx(math.log2(3)) and plain["routing"]["bound_proven"]
    assert plain["routing"]["worst_excess_bits"] <= math.log2(3) + 1e-6
    assert plain["routing"]["worst_excess_bits"] == max(
        facts["routing"]["worst_excess_bits"] for facts in plain["domains"].values()
    )
    sea = taught.parent / "sea.txt"
    with_data = ["evaluate", taught, "--data", sea, "--sequence-length", 64]
    found, shared = told(capsys, *with_data), told(capsys, *with_data, "--fixed-share", 0.01)
    assert min(found["experts"], key=lambda name: found["experts"][name]) == "sea"
    assert shared["bits_per_byte"] > found["bits_per_byte"]  # nothing changes inside: fixed share only costs
    routing = shared["routing"]
    assert routing["bits_per_token"] == pytest.approx(-math.log2(0.99))
    assert routing["bits_per_change"] == pytest.approx(math.log2(2 / 0.01))
    assert routing["worst_excess_bits"] <= routing["bound_bits"]
    for how, words in (([], "1.58 bits in all more"), (["--fixed-share", 0.01], "0.0145 bits a token")):
        assert main([*map(str, [*with_data, *how])]) == 0
        shown = capsys.readouterr().out
        assert words in shown and "sea alone" in shown and "best of each text" in shown and "letter" not in shown
    talk = tmp_path / "talk.jsonl"
    turns = [
        [{"role": "user", "content": f"What is {name}?"}, {"role": "assistant", "content": text[:200]}]
        for name, text in topics.topics.items()
    ]
    talk.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    assert main(["evaluate", str(taught), "--data", str(talk)]) == 0
    assert "for them the bound does not hold to the letter" in capsys.readouterr().out
    assert main(["evaluate", str(taught), "--data", str(sea), "--adapter", "sea", "--fixed-share", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert "--fixed-share without effect" in err and "answered together" not in out


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
