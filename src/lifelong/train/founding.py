"""What a trained model remembers of its text: frozen gate and test slices, and a sample to replay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.matrix import Matrix
from lifelong.files import write_json
from lifelong.model.directory import GENERATION, fingerprint, model_card, write_model_files
from lifelong.model.store import HOME, STATE, ModelStore
from lifelong.model.transformer import Transformer
from lifelong.model.weights import TORCH_WEIGHTS
from lifelong.text.corpus import Corpus
from lifelong.text.memory import ReplayMemory, write_slice
from lifelong.tokens.base import Tokenizer
from lifelong.train.start import Origin

MEMORY, _SLICES = f"{HOME}/memory/examples.jsonl", f"{HOME}/domains"
# Files that a model made elsewhere may have, and that would contradict those written here.
_STALE = (
    *(TORCH_WEIGHTS, "spm.model", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"),
)


def slice_path(domain: str, split: str) -> str:
    """Return where a domain's frozen slice lies in a model directory."""
    return f"{_SLICES}/{domain}/{split}.jsonl"


def stage_domain(
    staged: Path, past: Path | None, corpus: Corpus, domain: str, *, capacity: int, seed: int = 0
) -> dict[str, Any]:
    """Stage a domain's gate and test slices and the replay memory with a share for it; returns facts for the state.

    A domain taught before keeps the slices frozen then: those of ``past``, the directory that the model comes from.
    """
    memory = ReplayMemory(capacity, seed) if past is None else ReplayMemory.load(past / MEMORY, capacity, seed)
    memory.add(corpus.train, domain)
    memory.save(staged / MEMORY)
    left_out = {}
    for split in ("gate", "test"):
        if past is None or not (past / slice_path(domain, split)).is_file():
            left_out[split] = write_slice(corpus.split(split), staged / slice_path(domain, split), seed=seed)
    return {"memory": memory.counts(), "left_out_of_slices": left_out}


def commit_model(
    out: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    corpus: Corpus,
    origin: Origin,
    *,
    domain: str,
    event: dict[str, Any],
    matrix: Matrix | None = None,
    capacity: int = 1000,
) -> int:
    """Make trained weights the state in force of the model directory ``out``; returns the generation's number.

    What the model remembers goes on from where its weights come from. Earlier adapters belong to earlier weights and
    are taken out, and so are a stock directory's files in other formats, which would be stale: the history keeps their
    generation.
    """
    store = ModelStore.open(out)
    if store.adopt():
        progress.note(f"What lay in {out} is kept as the first state of its history.")
    past = origin.past
    known = ModelStore.open(past).state().get("domains", []) if past else []
    domains = known if domain in known else [*known, domain]
    with store.staging() as staged:
        write_model_files(model, tokenizer, staged)
        elsewhere = past is None or past.resolve() != out.resolve()
        if past and elsewhere and (past / _SLICES).is_dir():
            shutil.copytree(past / _SLICES, staged / _SLICES)
        facts = stage_domain(staged, past, corpus, domain, capacity=capacity)
        state = {
            "format": 1,
            "base_fingerprint": fingerprint(model),
            "domains": domains,
            "active_adapter": None,
            "peak_learning_rate": max(origin.learning_rate, origin.peak_learning_rate),
            "memory": facts["memory"],
            **({"pretrained": origin.pretrained} if origin.pretrained else {}),
            **({"matrix": matrix.to_dict()} if matrix else {}),
        }
        write_state(staged, state)
        card = {
            "parameters": f"{model.config.parameters:,}",
            "domains": ", ".join(domains),
            "last event": event["event"],
            **({"base": origin.pretrained} if origin.pretrained else {}),
        }
        (staged / "README.md").write_text(model_card(out.name, card), encoding="utf-8")
        gone = (f"{HOME}/adapters/", GENERATION, *_STALE, *((f"{_SLICES}/", MEMORY) if elsewhere else ()))
        return store.commit(staged, {**event, **facts}, remove=gone)


def write_state(staged: Path, state: dict[str, Any]) -> None:
    """Stage ``lifelong/state.json``."""
    write_json(staged / STATE, state)
