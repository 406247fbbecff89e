"""The contestants of `continual.py`: ways of teaching one domain after another.

Every method takes a `Bench` and returns ``rows`` of test bits per byte (before, and after each lesson) and its `Costs`.
All have the same text, rows of tokens, batches and passes over new text; replay adds old text on top, so that its
methods take more steps. **No method was tuned**: each has its library's or guide's own settings, and the peak rate of
all but `low_rate` is the one the base model was trained at. Conversations (`maths` has some) are packed whole by our
lessons; PEFT and Avalanche get them as running text, its answers to learn.

"LoRA only" is `peft`: our adapters compute what PEFT's do (the tests compare them), and ours taught in sequence without
replay would be that row again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from avalanche_strategies import PACKAGES, avalanche_ewc, avalanche_naive, avalanche_replay, declare_kernels
from lessons_bench import LENGTH, ROWS, Bench, Costs
from trainers import missing

from lifelong.learn.consolidation import consolidate
from lifelong.learn.folded import Consolidation
from lifelong.learn.held import scores
from lifelong.model.directory import load_model
from lifelong.settings.consolidate import ConsolidateSettings
from lifelong.tokens.loader import Loader

Method = Callable[[Bench], dict[str, Any]]


def naive(bench: Bench) -> dict[str, Any]:
    """All weights, nothing else."""
    return bench.lessons("naive", mode="full", replay_share=0, use_ewc=False, accept=True)


def low_rate(bench: Bench) -> dict[str, Any]:
    """All weights at guide B's rate."""
    choices = {"mode": "full", "replay_share": 0, "use_ewc": False, "accept": True, "learning_rate": 1e-5}
    return bench.lessons("low_rate", **choices)


def ewc_only(bench: Bench) -> dict[str, Any]:
    """All weights, EWC."""
    return bench.lessons("ewc_only", mode="full", replay_share=0, accept=True)


def replay_only(bench: Bench) -> dict[str, Any]:
    """All weights, half of the rows replayed."""
    return bench.lessons("replay_only", mode="full", use_ewc=False, accept=True)


def replay_ewc(bench: Bench) -> dict[str, Any]:
    """All weights, half of the rows replayed, EWC: beside `replay_only`, what EWC adds to replay."""
    return bench.lessons("replay_ewc", mode="full", accept=True)


def replay_and_ewc(bench: Bench) -> dict[str, Any]:
    """All weights, replay and EWC, gated."""
    return bench.lessons("replay_and_ewc", mode="full")


def auto(bench: Bench) -> dict[str, Any]:
    """What `lifelong learn` does by itself: all weights as above, or an adapter where the gate finds that better."""
    return bench.lessons("auto")


def peft(bench: Bench) -> dict[str, Any]:
    """PEFT's own LoRA on the model as transformers loads it, one adapter for all lessons in turn."""
    declare_kernels()
    import peft as library
    from transformers import AutoModelForCausalLM

    torch.manual_seed(bench.seed)
    place, saved = bench.copy("peft"), bench.work / "peft-adapter"
    _, tokenizer = load_model(place)
    model = AutoModelForCausalLM.from_pretrained(place)
    config = library.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear")
    model = library.get_peft_model(model, config)
    rows, tokens, seconds = [bench.before], 0, 0.0
    for domain in bench.domains:
        source = bench.rows(domain, tokenizer)
        loader = Loader([(source, 1.0)], batch_size=ROWS, seed=bench.seed)
        steps = math.ceil(bench.options.epochs * len(source) / ROWS)
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=bench.rate, weight_decay=0.0)
        began = time.perf_counter()
        model.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = bench.rate * min(1.0, (step + 1) / max(1, 0.02 * steps)) * (1 - step / steps)
            batch = loader.batch(step)
            logits = model(batch.input_ids).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            tokens += int((batch.labels != -100).sum())
        seconds += time.perf_counter() - began
        model.save_pretrained(saved)
        rows.append(bench.measure(place, saved))
    return {"rows": rows, **vars(bench.costs(tokens, seconds, sum(w.numel() for w in weights)))}


def routed(bench: Bench) -> dict[str, Any]:
    """An adapter for each domain beside the frozen base; the text itself says which answers."""
    found = bench.lessons("routed", mode="adapter", accept=True)
    place = bench.work / "routed"
    every = scores(bench.held(place))
    excess = [score.excess for score in every.values() if score.excess is not None]
    # Of a conversation the answers are scored, and its questions have weighed the experts: there no bound holds.
    worst = {whole: max(e.worst for e in excess if e.whole is whole) for whole in {e.whole for e in excess}}
    adapters = place / "lifelong" / "adapters"
    sizes = [sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in adapters.iterdir()]
    return found | {
        # The base's expert is called as its domain is, and an adapter as the domain that it was taught.
        "oracle": {domain: score.experts[domain].bits_per_byte for domain, score in every.items()},
        "worst_excess_bits": worst[True][0],
        "worst_excess_bits_of_answers": worst.get(False, (0.0, 0.0))[0],
        "bound_bits": worst[True][1],
        "adapter_bytes": max(sizes),
        "memory_bytes": (place / "lifelong/memory/examples.jsonl").stat().st_size,
        "fisher_bytes": (place / "lifelong/fisher.safetensors").stat().st_size,
    }


def isolated(bench: Bench) -> dict[str, Any]:
    """The adapters of `routed`, each read alone on its own domain: what an oracle that names the domain would get."""
    _routed(bench)
    found = bench.results["routed"]
    rows = [bench.before]
    for number in range(1, len(bench.domains) + 1):
        rows.append({**bench.before, **{domain: found["oracle"][domain] for domain in bench.domains[:number]}})
    return {"rows": rows, **{cost: found[cost] for cost in vars(Costs())}}


def consolidated(bench: Bench) -> dict[str, Any]:
    """The routed model's adapters, folded into its weights by the replay memory alone; costs are without `routed`'s."""
    place = bench.copy("consolidated", _routed(bench))
    settings = {"batch_size": ROWS, "sequence_length": LENGTH, "accept": True}
    settings |= {"max_bytes": bench.options.max_bytes, "seed": bench.seed}
    result = consolidate(place, ConsolidateSettings.build(settings))
    assert isinstance(result, Consolidation)
    return {
        "rows": [*bench.results["routed"]["rows"], bench.measure(place)],
        **vars(Costs.of(result)),
        "share": result.share,
        "accepted_by_the_gate": result.decision.accepted,
    }


def again(bench: Bench) -> dict[str, Any]:
    """The routed model, taught the first domain once more; costs are without `routed`'s."""
    place = bench.copy("again", _routed(bench))
    result = bench.lesson(place, bench.domains[0], mode="adapter", accept=True, again=True)
    rows = [*bench.results["routed"]["rows"], bench.measure(place)]
    return {"rows": rows, **vars(Costs.of(result))}


def joint(bench: Bench) -> dict[str, Any]:
    """All domains at once, with replay of the base: what no sequence of lessons can be expected to beat."""
    after, costs = bench.retrained("joint", bench.domains)
    return {"rows": [bench.before, after], **vars(costs)}


def cumulative(bench: Bench) -> dict[str, Any]:
    """After each lesson, the base model anew on all text so far; the last of these is `joint`, and not run twice."""
    rows, costs = [bench.before], Costs()
    for number in range(1, len(bench.domains) + 1):
        if number == len(bench.domains) and "joint" in bench.results:
            last = bench.results["joint"]
            after, spent = last["rows"][-1], Costs(**{cost: last[cost] for cost in vars(costs)})
        else:
            after, spent = bench.retrained("cumulative", bench.domains[:number])
        rows.append(after)
        costs += spent
    return {"rows": rows, **vars(costs)}


def _routed(bench: Bench) -> Path:
    """Return the model that `routed` left."""
    place = bench.work / "routed"
    if "routed" not in bench.results or not place.is_dir():
        raise SystemExit("isolated, consolidated and again go on from routed: name that method, too")
    return place


# In the order in which they run, for some go on from others, and stand in the table.
METHODS: dict[str, Method] = {
    function.__name__: function
    for function in (
        *(naive, low_rate, ewc_only, replay_only, replay_ewc, replay_and_ewc, auto, peft),
        *(avalanche_naive, avalanche_replay, avalanche_ewc),
        *(routed, isolated, consolidated, again, joint, cumulative),
    )
}


def left_out(names: list[str]) -> dict[str, str]:
    """Return the methods among ``names`` whose packages are not here, and what they lack."""
    needs = {"peft": ("peft",), **{name: PACKAGES for name in METHODS if name.startswith("avalanche_")}}
    found = {name: missing(*needs[name]) for name in names if name in needs}
    return {name: reason for name, reason in found.items() if reason}
