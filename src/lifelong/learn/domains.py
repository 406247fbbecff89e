"""What a model knows, domain by domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.learn.fisher import guarded_domains
from lifelong.learn.held import read_slices
from lifelong.model.directory import find_model
from lifelong.model.store import ModelStore
from lifelong.text.memory import ReplayMemory
from lifelong.train.founding import FISHER, MEMORY


def list_domains(model: Path) -> list[dict[str, Any]]:
    """Return what a model was taught: of each domain its adapters, what is remembered and held out, and its bits.

    ``bits_per_byte`` is the matrix's last figure, None before the first lesson; ``guarded`` is whether EWC knows what
    the weights need for the domain, with or without any of its text.
    """
    root = find_model(model)
    store = ModelStore.open(root)
    state = store.state()
    memory = ReplayMemory.load(root / MEMORY)
    domains = list(state.get("domains", []))
    slices = {split: read_slices(root, domains, split) for split in ("gate", "test")}
    guarded = guarded_domains(root / FISHER)
    matrix = state.get("matrix") or {"domains": [], "bpb": [[]]}
    last = dict(zip(matrix["domains"], matrix["bpb"][-1], strict=True))
    return [
        {
            "domain": domain,
            "adapters": [item["name"] for item in state.get("adapters", []) if item["domain"] == domain],
            "remembered": len(memory.documents(domain)),
            "remembered_bytes": sum(document.bytes for document in memory.documents(domain)),
            "gate_documents": len(slices["gate"].get(domain, ())),
            "test_documents": len(slices["test"].get(domain, ())),
            "bits_per_byte": last.get(domain),
            "guarded": domain in guarded,
        }
        for domain in domains
    ]
