"""Several views of one model, a store beside it, and what the page is told."""

from __future__ import annotations

import copy
import gc
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from driving import done
from lifelong.errors import LifelongError
from lifelong.generate.engine import generate
from lifelong.generate.sampling import Sampling
from lifelong.model.adapters import AdapterConfig, adapted_layers, attach_adapter
from lifelong.model.directory import load_model
from lifelong.model.experts import add_expert, use_expert
from lifelong.serve.app import serving, watching
from lifelong.serve.board import Board, open_run
from lifelong.serve.sources import Sources
from lifelong.serve.views import Views
from lifelong.settings.serve import AddressSettings, ServeSettings
from lifelong.tokens.tokenizer import BPETokenizer

Answering = Callable[[Any], AbstractContextManager[str]]


def with_adapters(place: Path, names: list[str]) -> tuple[Any, BPETokenizer]:
    """Load a model and put adapters with random weights beside it."""
    model, tokenizer = load_model(place, device="cpu")
    for number, name in enumerate(names):
        torch.manual_seed(number + 5)
        attach_adapter(model, AdapterConfig(rank=4, dropout=0.0))
        with torch.no_grad():
            for _, layer in adapted_layers(model):
                layer.adapter.lora_A.normal_(std=0.3)
                layer.adapter.lora_B.normal_(std=0.3)
        add_expert(model, name)
    return model.eval(), tokenizer


def text_of(address: str, model: str, **asked: Any) -> Any:
    body = {"model": model, "prompt": "The import", "max_tokens": 8, "temperature": 0, **asked}
    found = httpx.post(f"{address}/v1/completions", json=body, timeout=60)
    assert found.status_code == 200, found.text
    return found.json()


def test_f08_each_adapter_answers_as_it_does_alone_and_auto_as_all_together(
    model_dir: Path, answering: Answering
) -> None:
    model, tokenizer = with_adapters(model_dir, ["drama", "auto"])
    alone = copy.deepcopy(model)
    together = generate(alone, tokenizer, "The import", max_tokens=8, temperature=0)[0]
    expected = {"auto": together}
    experts = alone.experts
    for name in ("base", "drama", "auto"):
        alone.experts = experts
        use_expert(alone, name)
        alone.experts = None
        text = generate(alone, tokenizer, "The import", max_tokens=8, temperature=0)[0]
        expected["adapter-auto" if name == "auto" else name] = text
    assert len(set(expected.values())) > 2
    settings = ServeSettings.build({"device": "cpu"})
    views = Views(model, tokenizer, rows=4, context=64)
    with answering(serving(views, settings, Board(model_dir))) as address:
        for _ in range(2):  # in turn, so that every view is left and come back to
            for name, text in expected.items():
                found = text_of(address, name)
                assert found["choices"][0]["text"] == text
                assert ("lifelong" in found) is (name == "auto")
        weights = text_of(address, "auto")["lifelong"]["experts"][0]
        assert weights.keys() == {"base", "drama", "auto"} and sum(weights.values()) == pytest.approx(1, abs=1e-4)
        scored = text_of(address, "auto", echo=True, logprobs=1)["choices"][0]["logprobs"]["token_logprobs"]
        written = text_of(address, "auto", logprobs=1)["choices"][0]["logprobs"]["token_logprobs"]
        whole = "The import" + together
        again = text_of(address, "auto", prompt=whole, echo=True, logprobs=0, max_tokens=0)["choices"][0]
        if again["logprobs"]["tokens"][-8:] == tokenizer_words(tokenizer, together):
            assert again["logprobs"]["token_logprobs"][-8:] == pytest.approx(written, abs=2e-3)
        assert scored[-8:] == pytest.approx(written, abs=2e-3)


def tokenizer_words(tokenizer: BPETokenizer, text: str) -> list[str]:
    return [tokenizer.decode([number]) for number in tokenizer.encode(text)]


def test_merged_is_the_only_adapter(model_dir: Path) -> None:
    model, tokenizer = with_adapters(model_dir, ["drama"])
    views = Views(model, tokenizer, rows=2, context=64)
    assert views.targets == {"auto": "routed", "base": "base", "merged": "drama", "drama": "drama"}
    several = Views(*with_adapters(model_dir, ["drama", "maths"]), rows=2, context=64)
    with pytest.raises(LifelongError, match="cannot be merged"):
        several.target("merged")
    with pytest.raises(LifelongError, match="reads 256 tokens, not 300"):
        Views(model, tokenizer, rows=2, context=300)


def test_f23_answers_name_their_sources(model_dir: Path, answering: Answering, tmp_path: Path) -> None:
    (tmp_path / "lists.md").write_text("# Lists\n\nA list keeps values in order.\n\n# Trees\n\nA tree has branches.\n")
    done("index", tmp_path / "lists.md", "--store", tmp_path / "store")
    settings = ServeSettings.build({"device": "cpu"})
    views = Views(*load_model(model_dir, device="cpu"), rows=2, context=None)
    sources = Sources(tmp_path / "store", views)
    with answering(serving(views, settings, Board(model_dir), sources)) as address:
        body = {"model": "base", "messages": [{"role": "user", "content": "What is a list?"}], "passages": 1}
        found = httpx.post(f"{address}/v1/chat/completions", json={**body, "max_tokens": 4}, timeout=60).json()
        [source] = found["lifelong"]["sources"]
        assert "keeps values in order" in source["text"] and "lists.md" in source["place"]
        body["messages"][0]["content"] = "zebra"  # type: ignore[index]
        missing = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
        assert missing.json()["error"]["code"] == "not_found"


def test_f31_a_run_is_followed_as_it_grows(tmp_path: Path, answering: Answering) -> None:
    run = tmp_path / "runs" / "0001-pretrain"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "running", "steps": 9, "learning_rate": 0.1}))
    file = run / "metrics.jsonl"

    def write(rows: list[dict[str, Any]], end: str = "") -> None:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)

    write([{"step": 1, "loss": 3.0}, {"step": 2, "loss": float("nan")}], '{"step": 3, "lo')
    with answering(watching(AddressSettings(), open_run(tmp_path))) as address:
        state = httpx.get(f"{address}/lifelong/state").json()
        assert (state["mode"], [one["name"] for one in state["runs"]]) == ("watch", ["0001-pretrain"])
        url = f"{address}/lifelong/runs/0001-pretrain"
        first = httpx.get(url).json()
        assert first["rows"] == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": None}]  # the half line waits
        write([{"step": 1, "loss": 3.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 2.0}])
        more = httpx.get(url, params={"from": first["next"]}).json()
        assert (more["rows"], more["again"]) == ([{"step": 3, "loss": 2.0}], False)
        write([{"step": 1, "loss": 3.0}])  # resumed from a checkpoint: rows are taken back
        back = httpx.get(url, params={"from": more["next"]}).json()
        assert (back["rows"], back["again"]) == ([{"step": 1, "loss": 3.0}], True)
        assert httpx.get(f"{address}/lifelong/runs/..%2F..").status_code == 404
        assert httpx.get(url, params={"from": "-1"}).status_code == 400
        assert httpx.get(f"{address}/v1/models").status_code == 404


def test_views_are_let_go_without_a_word_however_many_are_open(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    views = Views(*with_adapters(model_dir, ["drama", "maths"]), rows=2, context=64)
    for name in ("auto", "drama"):  # one that computes all adapters at once, then one alone
        slots = views.slots(views.target(name))
        slots.join([1, 2, 3], Sampling(), max_tokens=2)
        slots.step()
    views.close()
    del slots, views
    gc.collect()
    assert not unraisable
