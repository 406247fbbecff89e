"""What a trained model remembers of its text: frozen gate and test slices, and a sample to replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.files import write_json
from lifelong.model.directory import GENERATION, fingerprint, model_card, write_model_files
from lifelong.model.store import HOME, STATE, ModelStore
from lifelong.model.transformer import Transformer
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory, write_slice
from lifelong.tokens.base import Tokenizer

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
    capacity: int = 1000,
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
        state = {
            "format": 1,
            "base_fingerprint": fingerprint(model),
            "domains": domains,
            "active_adapter": None,
            "peak_learning_rate": max(rate, state.get("peak_learning_rate", 0.0)),
            "memory": facts["memory"],
        }
        write_state(staged, state)
        card = {
            "parameters": f"{model.config.parameters:,}",
            "domains": ", ".join(domains),
            "last event": event["event"],
        }
        (staged / "README.md").write_text(model_card(out.name, card), encoding="utf-8")
        return store.commit(staged, {**event, **facts}, remove=(f"{HOME}/adapters/", GENERATION))


def write_state(staged: Path, state: dict[str, Any]) -> None:
    """Stage ``lifelong/state.json``."""
    write_json(staged / STATE, state)
