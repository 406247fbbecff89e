"""The text of a sequence of lessons, the base model that all methods start from, and how each lesson is measured."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common import write_json

from lifelong.evaluate.bits import score
from lifelong.evaluate.matrix import Measuring
from lifelong.learn.cost import session_flops
from lifelong.learn.folded import Consolidation
from lifelong.learn.held import Holdings, hold, read_held
from lifelong.learn.method import learning_rate
from lifelong.learn.session import LessonResult, learn
from lifelong.model.adapters import load_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import load_model, read_config
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import TrainSettings
from lifelong.text import Corpus, build_corpus, load_prepared
from lifelong.text.document import Document
from lifelong.text.memory import ReplayMemory
from lifelong.text.prepared import PreparedWriter
from lifelong.text.splitting import position
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.building import build_cache
from lifelong.tokens.rows import WindowSource
from lifelong.tokens.tokenizer import BPETokenizer
from lifelong.train.founding import MEMORY
from lifelong.train.run import train

LENGTH, ROWS = 256, 8
BASE, JOINT = "base", "joint"


def prepare(options: argparse.Namespace) -> None:
    """Write a prepared directory for the base and for every domain, cut to size in an order by hash."""
    wanted = {BASE: options.base, **{domain: [domain] for domain in options.domains}}
    for name, folders in wanted.items():
        place = options.work / "data" / name
        if place.is_dir():
            continue
        size = options.base_megabytes * 1e6 if name == BASE else options.kilobytes * 1e3
        corpus = build_corpus([str(options.data / folder) for folder in folders], seed=options.seed)
        _write(place, _cut(corpus, size, options.seed))


def train_base(options: argparse.Namespace) -> dict[str, Any]:
    """Train tokenizer and base model, once; returns what it took."""
    note, text = options.work / "base.json", options.work / "data" / BASE
    if not note.is_file():
        settings = TrainSettings.build(
            {
                "preset": options.preset,
                "epochs": options.base_epochs,
                "batch_size": 16,
                "sequence_length": LENGTH,
                "seed": options.seed,
                "domain": BASE,
            }
        )
        words = BPETokenizer(options.vocab).train(d.text for d in load_prepared(text).train)
        words.save(options.work / "tokenizer")
        result = train([str(text)], options.work / "base-model", settings, tokenizer=options.work / "tokenizer")
        write_json(note, {key: result.to_dict()[key] for key in ("parameters", "steps", "tokens", "seconds")})
    found: dict[str, Any] = json.loads(note.read_text())
    return found | {"model_bytes": (options.work / "base-model" / "model.safetensors").stat().st_size}


@dataclass(frozen=True)
class Costs:
    """What training took: ``tokens`` learned from, ``flops`` computed for that, ``seconds``."""

    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    @classmethod
    def of(cls, result: LessonResult | Consolidation) -> Costs:
        """Return those of a lesson, with an attempt that was not kept, or of a consolidation."""
        parts = [result, *([result.undone] if isinstance(result, LessonResult) and result.undone else [])]
        return cls(*(sum(getattr(part, cost) for part in parts) for cost in ("tokens", "flops", "seconds")))

    def __add__(self, other: Costs) -> Costs:
        return Costs(self.tokens + other.tokens, self.flops + other.flops, self.seconds + other.seconds)


class Bench:
    """One sequence of lessons: a copy of the base model for each method, and the measure of all domains after each.

    Args:
        options: of the command. Text and base model are the same for all sequences.
        domains: what is taught, in this order.
        seed: of the lessons.
        place: where the models of this sequence go.
        results: of the methods that are done, by name.
    """

    def __init__(
        self, options: argparse.Namespace, domains: Sequence[str], seed: int, place: Path, results: dict[str, Any]
    ) -> None:
        self.options, self.domains, self.seed = options, list(domains), seed
        self.work, self.results = place, results
        self.model: Path = options.work / "base-model"

    @cached_property
    def before(self) -> dict[str, float]:
        """Test bits per byte of the base model."""
        return self.measure(self.model)

    @property
    def rate(self) -> float:
        """The peak rate that a lesson has where none is given."""
        return learning_rate(LearnSettings(), ModelStore.open(self.model).state())

    def costs(self, tokens: int, seconds: float, adapter_parameters: int = 0) -> Costs:
        """Return what training with another library took; see `session_flops`."""
        shape = read_config(self.model)
        return Costs(tokens, session_flops(shape, tokens, LENGTH, adapter_parameters=adapter_parameters), seconds)

    def copy(self, name: str, source: Path | None = None) -> Path:
        """Return a fresh copy of the base model, or of another."""
        place = self.work / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source or self.model, place, ignore=shutil.ignore_patterns("runs"))
        return place

    def lessons(self, name: str, **choices: Any) -> dict[str, Any]:
        """Teach all domains in turn; returns the rows of test bits per byte, the costs and decisions."""
        place = self.copy(name)
        rows, costs, notes = [self.before], Costs(), []
        for domain in self.domains:
            result = self.lesson(place, domain, **choices)
            costs += Costs.of(result)
            notes.append({"domain": domain, "accepted": result.accepted, "scale": result.scale, "mode": result.mode})
            rows.append(self.measure(place))
        return {"rows": rows, **vars(costs), "lessons": notes}

    def lesson(self, place: Path, domain: str, text: Path | None = None, **choices: Any) -> LessonResult:
        """Teach one domain, or another text under its name."""
        settings = {
            "domain": domain,
            "epochs": self.options.epochs,
            "batch_size": ROWS,
            "sequence_length": LENGTH,
            "seed": self.seed,
            "max_bytes": self.options.max_bytes,
            **choices,
        }
        result = learn(place, [str(text or self.text(domain))], LearnSettings.build(settings))
        assert isinstance(result, LessonResult)
        return result

    def retrained(self, name: str, domains: list[str]) -> tuple[dict[str, float], Costs]:
        """Train the base model on the text of several domains at once, with replay of its own; measured afterwards.

        Returns test bits per byte and the costs.
        """
        place, together = self.copy(name), self.work / "data" / "+".join(domains)
        if not together.is_dir():
            parts = [load_prepared(self.text(domain)) for domain in domains]
            _write(together, Corpus(*([d for part in parts for d in part.split(s)] for s in ("train", "gate", "test"))))
        result = self.lesson(place, JOINT, together, mode="full", use_ewc=False, accept=True)
        return self.measure(place), Costs.of(result)

    def measure(self, place: Path, adapter: Path | None = None) -> dict[str, float]:
        """Return test bits per byte of the base's text and of every domain; of a PEFT adapter's where one is given."""
        model, tokenizer = load_model(place, adapter="base" if adapter else "routed")
        if adapter:
            load_adapter(model, adapter)
        return self.measure_model(model, tokenizer)

    def measure_model(self, model: LanguageModel, tokenizer: Tokenizer) -> dict[str, float]:
        """Return test bits per byte of the base's text and of every domain."""
        found = {}
        for domain in (BASE, *self.domains):
            test = load_prepared(self.text(domain)).test
            held = score(model, tokenizer, test, sequence_length=LENGTH, max_bytes=self.options.max_bytes)
            found[domain] = held.bits_per_byte
        return found

    def held(self, place: Path) -> Holdings:
        """Return every domain's test slice, read by all experts."""
        model, tokenizer = load_model(place)
        slices = {domain: load_prepared(self.text(domain)).test for domain in (BASE, *self.domains)}
        found = hold(tokenizer, slices, Measuring(LENGTH, self.options.max_bytes))
        read_held(model, found, "Reading")
        return found

    def text(self, name: str) -> Path:
        """Return the prepared text of the base or of a domain."""
        place: Path = self.options.work / "data" / name
        return place

    def rows(self, name: str, tokenizer: Tokenizer) -> WindowSource:
        """Return a domain's training text as rows of token ids; of the base's text what the base model remembers."""
        text: Iterable[Document] = load_prepared(self.text(name)).train
        if name == BASE:
            text = ReplayMemory.load(self.model / MEMORY).documents(BASE)
        return WindowSource(build_cache(text, tokenizer, self.work / "cache" / name), LENGTH)


def _cut(corpus: Corpus, size: float, seed: int) -> Corpus:
    """Take documents in an order by hash until the training text is ``size`` bytes; gate and test a fifth of that."""
    splits = []
    for split, limit in (("train", size), ("gate", size / 5), ("test", size / 5)):
        taken, total = [], 0
        for document in sorted(corpus.split(split), key=lambda d: position(f"{d.name}:{d.line}", seed)):
            if total + document.bytes <= limit:
                taken.append(document)
                total += document.bytes
        # Where every document is larger than that, the smallest is better than none.
        splits.append(taken or sorted(corpus.split(split), key=lambda d: d.bytes)[:1])
    return Corpus(*splits)


def _write(place: Path, corpus: Corpus) -> None:
    with PreparedWriter(place) as writer:
        for split in ("train", "gate", "test"):
            for document in corpus.split(split):
                writer.add(split, document)
