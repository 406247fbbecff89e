"""What lessons do to what a model knew: our ways of teaching beside naive tuning, single remedies and joint training.

    python benchmarks/continual.py --data DIR --work DIR [--json FILE] [--kilobytes 500] [--epochs 3] [--methods ...]

DIR holds folders of text: `manuals` and `wiki` for the base model, then a lesson each on `ops`, `code`, `maths`,
`legal` and `drama` (--base, --domains). Every method starts from a copy of the same base model and teaches the same
training text in the same order; all domains' test text is measured in bits per byte after every lesson. Methods that
are in the JSON file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, print_table, write_json

from lifelong.evaluate.bits import score
from lifelong.learn.consolidation import consolidate
from lifelong.learn.held import Holdings, hold, read_held, scores
from lifelong.learn.session import learn
from lifelong.model.adapters import load_adapter
from lifelong.model.directory import load_model
from lifelong.settings.consolidate import ConsolidateSettings
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import TrainSettings
from lifelong.text import Corpus, build_corpus, load_prepared
from lifelong.text.prepared import PreparedWriter
from lifelong.text.splitting import position
from lifelong.tokens.building import build_cache
from lifelong.tokens.loader import Loader
from lifelong.tokens.rows import WindowSource
from lifelong.train.run import train

LENGTH, ROWS = 256, 8
BASE = "base"


def main() -> None:
    """Run what is not in the JSON file yet, and print the table."""
    options = _options()
    done: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.is_file() else {}
    bench = Bench(options)
    done |= {"machine": machine(), "settings": {k: str(v) for k, v in vars(options).items()}}
    results = done.setdefault("methods", {})
    bench.prepare()
    done["base"] = bench.base()
    for name in options.methods:
        if name not in results:
            began = time.perf_counter()
            results[name] = METHODS[name](bench)
            results[name]["wall_seconds"] = time.perf_counter() - began
            write_json(options.json, done)
    report(options, done)
    write_json(options.json, done)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where models and prepared text go")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--base", nargs="+", default=["manuals", "wiki"])
    parser.add_argument("--domains", nargs="+", default=["ops", "code", "maths", "legal", "drama"])
    parser.add_argument("--kilobytes", type=int, default=500, help="training text of a lesson")
    parser.add_argument("--base-megabytes", type=float, default=8.0, help="training text of the base")
    parser.add_argument("--base-epochs", type=float, default=1.0)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--max-bytes", type=int, default=60_000, help="of every slice that is measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    return parser.parse_args()


class Bench:
    """The text, the base model, and a copy of it for each method."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.model = self.work / "base-model"

    def prepare(self) -> None:
        """Write a prepared directory for the base and for every domain, cut to size in an order by hash."""
        options = self.options
        wanted = {BASE: options.base, **{domain: [domain] for domain in options.domains}}
        for name, folders in wanted.items():
            place = self.work / "data" / name
            if place.is_dir():
                continue
            size = options.base_megabytes * 1e6 if name == BASE else options.kilobytes * 1e3
            corpus = build_corpus([str(options.data / folder) for folder in folders], seed=options.seed)
            _write(place, _cut(corpus, size, options.seed))
        joint = self.work / "data" / "joint"
        if not joint.is_dir():
            parts = [load_prepared(self.work / "data" / domain) for domain in options.domains]
            _write(joint, Corpus(*([d for part in parts for d in part.split(s)] for s in ("train", "gate", "test"))))

    def base(self) -> dict[str, Any]:
        """Train the base model, once."""
        note = self.work / "base.json"
        if not note.is_file():
            settings = TrainSettings.build(
                {
                    "preset": self.options.preset,
                    "epochs": self.options.base_epochs,
                    "batch_size": 16,
                    "sequence_length": LENGTH,
                    "seed": self.options.seed,
                    "domain": BASE,
                }
            )
            from lifelong.tokens.tokenizer import BPETokenizer

            words = BPETokenizer(self.options.vocab).train(d.text for d in load_prepared(self._text(BASE)).train)
            words.save(self.work / "tokenizer")
            result = train([str(self._text(BASE))], self.model, settings, tokenizer=self.work / "tokenizer")
            write_json(note, {key: result.to_dict()[key] for key in ("parameters", "steps", "tokens", "seconds")})
        found: dict[str, Any] = json.loads(note.read_text())
        return found | {"model_bytes": (self.model / "model.safetensors").stat().st_size}

    def copy(self, name: str) -> Path:
        """Return a fresh copy of the base model."""
        place = self.work / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.model, place, ignore=shutil.ignore_patterns("runs"))
        return place

    def lessons(self, name: str, **choices: Any) -> dict[str, Any]:
        """Teach all domains in turn; returns the rows of test bits per byte, tokens, seconds and decisions."""
        place = self.copy(name)
        rows, tokens, seconds, notes = [self.measure(place)], 0, 0.0, []
        for domain in self.options.domains:
            result = self.lesson(place, domain, **choices)
            assert result is not None
            tokens, seconds = tokens + result.tokens, seconds + result.seconds
            notes.append({"domain": domain, "accepted": result.accepted, "scale": result.scale, "mode": result.mode})
            rows.append(self.measure(place))
        return {"rows": rows, "tokens": tokens, "seconds": seconds, "lessons": notes}

    def lesson(self, place: Path, domain: str, **choices: Any) -> Any:
        """Teach one domain."""
        settings = {
            "domain": domain,
            "epochs": self.options.epochs,
            "batch_size": ROWS,
            "sequence_length": LENGTH,
            "seed": self.options.seed,
            "max_bytes": self.options.max_bytes,
            **choices,
        }
        if "steps" in choices:
            del settings["epochs"]
        return learn(place, [str(self._text(domain))], LearnSettings.build(settings))

    def measure(self, place: Path, adapter: str | None = None) -> dict[str, float]:
        """Return test bits per byte of the base's text and of every domain; of a PEFT adapter's where one is given."""
        model, tokenizer = load_model(place, adapter="base" if adapter else "routed")
        if adapter:
            load_adapter(model, Path(adapter))
        found = {}
        for domain in (BASE, *self.options.domains):
            test = load_prepared(self._text(domain)).test
            held = score(model, tokenizer, test, sequence_length=LENGTH, max_bytes=self.options.max_bytes)
            found[domain] = held.bits_per_byte
        return found

    def held(self, place: Path) -> Holdings:
        """Return every domain's test slice, read by all experts."""
        model, tokenizer = load_model(place)
        slices = {domain: load_prepared(self._text(domain)).test for domain in (BASE, *self.options.domains)}
        found = hold(tokenizer, slices, sequence_length=LENGTH, max_bytes=self.options.max_bytes)
        read_held(model, found, "Reading")
        return found

    def _text(self, name: str) -> Path:
        return self.work / "data" / name


def _cut(corpus: Corpus, size: float, seed: int) -> Corpus:
    """Take documents in an order by hash until the training text is ``size`` bytes; gate and test a fifth of that."""
    splits = []
    for split, limit in (("train", size), ("gate", size / 5), ("test", size / 5)):
        taken, total = [], 0
        for document in sorted(corpus.split(split), key=lambda d: position(f"{d.name}:{d.line}", seed)):
            if total + document.bytes <= limit:
                taken.append(document)
                total += document.bytes
        splits.append(taken)
    return Corpus(*splits)


def _write(place: Path, corpus: Corpus) -> None:
    with PreparedWriter(place) as writer:
        for split in ("train", "gate", "test"):
            for document in corpus.split(split):
                writer.add(split, document)


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


def replay_and_ewc(bench: Bench) -> dict[str, Any]:
    """All weights, replay and EWC, gated: what `--mode auto` does with a model trained here."""
    return bench.lessons("replay_and_ewc", mode="full")


def peft(bench: Bench) -> dict[str, Any]:
    """PEFT's own LoRA on the model as transformers loads it, one adapter for all lessons in turn."""
    import peft as library
    from transformers import AutoModelForCausalLM

    place = bench.copy("peft")
    _, tokenizer = load_model(place)
    model = AutoModelForCausalLM.from_pretrained(place)
    config = library.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear")
    model = library.get_peft_model(model, config)
    rows, tokens, seconds = [bench.measure(place)], 0, 0.0
    for domain in bench.options.domains:
        train_text = load_prepared(bench.work / "data" / domain).train
        cache = build_cache(train_text, tokenizer, bench.work / "peft-cache" / domain)
        source = WindowSource(cache, LENGTH)
        loader = Loader([(source, 1.0)], batch_size=ROWS, seed=bench.options.seed)
        steps = math.ceil(bench.options.epochs * len(source) / ROWS)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0)
        began = time.perf_counter()
        model.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * min(1.0, (step + 1) / max(1, 0.02 * steps)) * (1 - step / steps)
            batch = loader.batch(step)
            logits = model(batch.input_ids).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            tokens += int((batch.labels != -100).sum())
        seconds += time.perf_counter() - began
        model.save_pretrained(bench.work / "peft-adapter")
        rows.append(bench.measure(place, str(bench.work / "peft-adapter")))
    return {"rows": rows, "tokens": tokens, "seconds": seconds}


def routed(bench: Bench) -> dict[str, Any]:
    """An adapter for each domain beside the frozen base; the text itself says which answers."""
    found = bench.lessons("routed", mode="adapter", accept=True)
    place = bench.work / "routed"
    held = bench.held(place)
    excess = []
    for item in held.values():
        together = [tally.nats for tally in item.panel.tallies()]
        alone = [[tally.nats for tally in item.panel.tallies([name])] for name in item.panel.readings]
        excess += [(now - min(each)) / math.log(2) for now, *each in zip(together, *alone, strict=True)]
    every = scores(held)
    oracle = {domain: every[domain].experts[domain if domain != BASE else "base"].bits_per_byte for domain in held}
    adapters = place / "lifelong" / "adapters"
    sizes = [sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in adapters.iterdir()]
    return found | {
        "oracle": oracle,
        "worst_excess_bits": max(excess),
        "bound_bits": math.log2(1 + len(sizes)),
        "adapter_bytes": max(sizes),
        "memory_bytes": (place / "lifelong/memory/examples.jsonl").stat().st_size,
    }


def consolidated(bench: Bench) -> dict[str, Any]:
    """The routed model's adapters, folded into its weights by the replay memory alone."""
    source = bench.work / "routed"
    if not source.is_dir():
        raise SystemExit("consolidated goes on from routed: name that method, too")
    place = bench.work / "consolidated"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("runs"))
    settings = {"epochs": bench.options.epochs, "batch_size": ROWS, "sequence_length": LENGTH, "accept": True}
    result = consolidate(place, ConsolidateSettings.build({**settings, "max_bytes": bench.options.max_bytes}))
    assert result is not None
    return {
        "rows": [bench.measure(source), bench.measure(place)],
        "tokens": result.tokens,
        "seconds": result.seconds,
        "share": result.share,
        "accepted_by_the_gate": result.decision.accepted,
    }


def joint(bench: Bench) -> dict[str, Any]:
    """All domains at once, with replay of the base: what no sequence of lessons can be expected to beat."""
    place = bench.copy("joint")
    result = bench.lesson(place, "joint", mode="full", use_ewc=False, accept=True)
    rows = [bench.measure(bench.model), bench.measure(place)]
    return {"rows": rows, "tokens": result.tokens, "seconds": result.seconds}


METHODS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    function.__name__: function
    for function in (naive, low_rate, ewc_only, replay_only, replay_and_ewc, peft, routed, consolidated, joint)
}


def report(options: argparse.Namespace, done: dict[str, Any]) -> None:
    """Print the last rows, forgetting, and the share of the gap between naive and joint that is closed."""
    results = done["methods"]
    domains = [BASE, *options.domains]
    rows = []
    for name, found in results.items():
        last = found["rows"][-1]
        found["average"] = sum(last.values()) / len(last)
        found["worst_loss"] = _worst(found["rows"], domains, results, name)
        rows.append(
            [
                name,
                *(f"{last[domain]:.3f}" for domain in domains),
                f"{found['average']:.3f}",
                f"{found['worst_loss']:+.1%}",
                f"{found['tokens'] / 1e6:.2f}",
                f"{found['seconds'] / 60:.1f}",
            ]
        )
    notes = []
    if {"naive", "joint"} <= results.keys():
        low, high = results["joint"]["average"], results["naive"]["average"]
        for found in results.values():
            found["gap_closed"] = (high - found["average"]) / (high - low)
        closed = ", ".join(f"{name} {found['gap_closed']:.0%}" for name, found in results.items())
        notes.append(f"share of the gap between naive and joint that is closed: {closed}")
    if {"routed", "consolidated", "joint"} <= results.keys():
        # Retraining from the base on all text so far, after each of n lessons: (n + 1) / 2 times the joint run.
        every = results["joint"]["tokens"] * (len(options.domains) + 1) / 2
        spent = results["routed"]["tokens"] + results["consolidated"]["tokens"]
        done["tokens_against_cumulative"] = spent / every
        notes.append(
            f"tokens of routed and consolidated against retraining on all text after each lesson: {spent / every:.0%}"
        )
    if "routed" in results:
        found = results["routed"]
        notes.append(
            f"routed: a document costs at most {found['worst_excess_bits']:.3f} bits more than under its best expert "
            f"(bound {found['bound_bits']:.3f}); an adapter takes "
            f"{found['adapter_bytes'] / done['base']['model_bytes']:.1%} of the model's bytes, the memory "
            f"{found['memory_bytes'] / 1e6:.1f} MB"
        )
    columns = ["method", *domains, "average", "worst loss", "M tokens", "minutes"]
    print_table("Test bits per byte after the last lesson", columns, rows, notes)


def _worst(rows: list[dict[str, float]], domains: list[str], results: dict[str, Any], name: str) -> float:
    """Return the largest relative loss of a domain since it was taught (the base: since the start)."""
    if name == "joint":
        return rows[-1][BASE] / rows[0][BASE] - 1
    if name == "consolidated":
        rows = [*results["routed"]["rows"], rows[-1]]
    known = {domain: rows[number][domain] for number, domain in enumerate(domains)}
    return max(rows[-1][domain] / before - 1 for domain, before in known.items())


if __name__ == "__main__":
    main()
