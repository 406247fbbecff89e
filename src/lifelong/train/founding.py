"""What a trained model remembers of its text: frozen gate and test slices, and a sample to replay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifelong.files import link_file, write_json
from lifelong.model.directory import fingerprint, model_card, write_model_files
from lifelong.model.store import HOME, STATE, ModelStore
from lifelong.model.transformer import Transformer
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory, write_slice
from lifelong.tokens.base import Tokenizer

CAPACITY = 1000  # documents in a replay memory
MEMORY = f"{HOME}/memory/examples.jsonl"


def slice_path(domain: str, split: str) -> str:
    """Return where a domain's frozen slice lies in a model directory."""
    return f"{HOME}/domains/{domain}/{split}.jsonl"


def stage_domain(
    staged: Path, store: ModelStore, corpus: Corpus, domain: str, *, capacity: int, seed: int = 0
) -> dict[str, Any]:
    """Stage a domain's gate and test slices and the replay memory with a share for it; returns facts for the state.

    A domain taught before keeps the slices frozen then.
    """
    memory = ReplayMemory.load(store.root / MEMORY, capacity, seed)
    memory.add(corpus.train, domain)
    memory.save(staged / MEMORY)
    left_out = {}
    for split in ("gate", "test"):
        if not (store.root / slice_path(domain, split)).is_file():
            left_out[split] = write_slice(corpus.split(split), staged / slice_path(domain, split), seed=seed)
    return {"memory": memory.counts(), "left_out_of_slices": left_out}


def commit_model(
    out: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    corpus: Corpus,
    *,
    domain: str,
    event: dict[str, Any],
    rate: float,
    capacity: int = CAPACITY,
) -> int:
    """Make trained weights the state in force of the model directory ``out``; returns the generation's number.

    Earlier adapters belong to earlier weights and are taken out; the history keeps their generation.
    """
    store = ModelStore.open(out)
    state = store.state()
    domains = state.get("domains", [])
    if domain not in domains:
        domains = [*domains, domain]
    with store.staging() as staged:
        write_model_files(model, tokenizer, staged)
        facts = stage_domain(staged, store, corpus, domain, capacity=capacity)
        _stage_state(staged, model, state, domains, facts["memory"], rate)
        _stage_card(staged, out.name, model, domains, event["event"])
        return store.commit(staged, {**event, **facts}, remove=(f"{HOME}/adapters/",))


class Beside:
    """What stands beside the weights in every model that a run keeps: slices and replay memory, made once for all."""

    def __init__(self, out: Path, place: Path, corpus: Corpus, domain: str, rate: float) -> None:
        self._store, self._place = ModelStore.open(out), place
        self._corpus, self._domain, self.rate = corpus, domain, rate
        self._memory: dict[str, int] | None = None
        self.before = self._store.state()
        self.domains = [*self.before.get("domains", [])]
        if domain not in self.domains:
            self.domains.append(domain)

    def put(self, into: Path) -> dict[str, int]:
        """Link it into a directory; returns how many documents of each domain the memory holds."""
        if self._memory is None:
            shutil.rmtree(self._place, ignore_errors=True)
            for domain in self.domains:
                known = self._store.root / HOME / "domains" / domain
                if known.is_dir():
                    shutil.copytree(known, self._place / HOME / "domains" / domain, copy_function=link_file)
            facts = stage_domain(self._place, self._store, self._corpus, self._domain, capacity=CAPACITY)
            self._memory = facts["memory"]
        shutil.copytree(self._place, into, copy_function=link_file, dirs_exist_ok=True)
        return self._memory or {}


def write_whole_model(
    place: Path, beside: Beside, model: Transformer, write_model: Callable[[Path], None], title: str
) -> None:
    """Write a model directory that stands on its own: weights, tokenizer, state, card, slices and replay memory."""
    write_model(place)
    memory = beside.put(place)
    _stage_state(place, model, beside.before, beside.domains, memory, beside.rate)
    _stage_card(place, title, model, beside.domains, "train")


def _stage_state(
    staged: Path, model: Transformer, before: dict[str, Any], domains: list[str], memory: dict[str, int], rate: float
) -> None:
    state = {
        "format": 1,
        "base_fingerprint": fingerprint(model),
        "domains": domains,
        "active_adapter": None,
        "peak_learning_rate": max(rate, before.get("peak_learning_rate", 0.0)),
        "memory": memory,
    }
    write_state(staged, state)


def _stage_card(staged: Path, title: str, model: Transformer, domains: list[str], event: str) -> None:
    card = {"parameters": f"{model.config.parameters:,}", "domains": ", ".join(domains), "last event": event}
    (staged / "README.md").write_text(model_card(title, card), encoding="utf-8")


def write_state(staged: Path, state: dict[str, Any]) -> None:
    """Stage ``lifelong/state.json``."""
    write_json(staged / STATE, state)
