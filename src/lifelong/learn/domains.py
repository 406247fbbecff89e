"""What a model knows, domain by domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.learn.held import read_slices
from lifelong.model.directory import find_model
from lifelong.model.store import ModelStore
from lifelong.text.memory import ReplayMemory
from lifelong.train.founding import MEMORY


def list_domains(model: Path) -> list[dict[str, Any]]:
    """Return what a model was taught: of each domain its adapters, what is remembered and held out, and its bits.

    ``bits_per_byte`` is the matrix's last figure, None before the first lesson.
    """
    root = find_model(model)
    store = ModelStore.open(root)
    state = store.state()
    memory = ReplayMemory.load(root / MEMORY)
    domains = list(state.get("domains", []))
    slices = {split: read_slices(root, domains, split) for split in ("gate", "test")}
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
        }
        for domain in domains
    ]
