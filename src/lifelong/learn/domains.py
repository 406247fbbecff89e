"""What a model knows, domain by domain, and making it forget a source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import writer_lock
from lifelong.learn.commit import stage_state
from lifelong.learn.fisher import guarded_domains
from lifelong.learn.held import read_slices
from lifelong.learn.ledger import in_force
from lifelong.learn.recovery import recover
from lifelong.model.directory import find_model
from lifelong.model.store import HOME, ModelStore
from lifelong.text.memory import ReplayMemory
from lifelong.train.founding import FISHER, MEMORY, learned_path


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


@dataclass(frozen=True)
class Forgotten:
    """What went with a source, and what stays."""

    source: str
    examples: int
    adapters: list[str]
    stays: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return dict(self.__dict__)


def forget(model: Path, source: str) -> Forgotten:
    """Drop a source: its examples in the replay memory, and the adapters that were taught it alone.

    What was learned with all weights stays in them: each such lesson is named. Held-out slices stay, too, since the
    matrix rests on them; they are never trained on. The history keeps what was dropped until its states are gone.

    Args:
        model: a model directory.
        source: a file or folder as it was named in a lesson, or one below it.

    Raises:
        LifelongError: nothing of this source is remembered, and no lesson in force was taught it.
    """
    root = find_model(model)
    store = ModelStore.open(root)
    with writer_lock(root / HOME):
        recover(store)
        state = store.state()
        memory = ReplayMemory.load(root / MEMORY)
        memory.capacity = max(memory.capacity, len(memory.documents()))
        gone = 0
        sessions, trained = in_force(store), _trained_domains(store)
        stays: list[str] = []
        lost = set[str]()
        for domain, examples in memory.examples.items():
            kept = [example for example in examples if not _is_of(example.source, source)]
            if domain in trained and len(kept) < len(examples):
                stays.append(
                    f"domain '{domain}' was trained into all weights: only training anew without it undoes that"
                )
            gone += len(examples) - len(kept)
            if len(kept) < len(examples):
                lost.add(domain)
            memory.examples[domain] = kept
        dropped: list[str] = []
        unlearned = set[str]()
        for event in sessions:
            if event["event"] != "lesson" or not any(_is_of(name, source) for name in event.get("sources", [])):
                continue
            where = f"lesson {event['session']} ({event['domain']})"
            others = [name for name in event["sources"] if not _is_of(name, source)]
            name = event["adapter"]
            if name is None:
                stays.append(f"{where} was taught with all weights: rolling it back undoes it and all after it")
            elif name not in store.adapters():
                stays.append(f"{where}: its adapter '{name}' was folded into the weights")
            elif others:
                stays.append(f"{where}: the adapter '{name}' learned from {', '.join(others)}, too")
            else:
                dropped.append(name)
                unlearned.add(event["domain"])
        if not gone and not dropped and not stays:
            known = sorted({example.source for example in memory.documents()})
            raise LifelongError(
                f"nothing of '{source}' is known",
                where=str(root),
                fix=f"Remembered sources: {', '.join(known[:8]) or 'none'}{' …' if len(known) > 8 else ''}.",
            )
        for domain in sorted(lost.intersection(guarded_domains(root / FISHER))):
            stays.append(f"what the weights need for domain '{domain}': EWC goes on guarding it in lessons")
        if gone:
            stays.append("earlier states of the directory still hold its text, to be rolled back to")
        held = sum(
            _is_of(document.source, source)
            for split in ("gate", "test")
            for documents in read_slices(root, list(state.get("domains", [])), split).values()
            for document in documents
        )
        if held:
            stays.append(f"{held:,} held-out documents of it, which the matrix rests on; they are never trained on")
        later = [item["name"] for item in state.get("adapters", []) if _goes_on_from(item, dropped, state)]
        stays += [f"adapter '{name}' went on from one that is dropped, and keeps what it took over" for name in later]
        state["adapters"] = [item for item in state.get("adapters", []) if item["name"] not in dropped]
        state["memory"] = memory.counts()
        with store.staging() as staged:
            memory.save(staged / MEMORY)
            stage_state(staged, root, state)
            # Where no lesson of the domain is left, its text is new again.
            unlearned -= trained | {item["domain"] for item in state["adapters"]}
            unlearned -= {event["domain"] for event in sessions if event.get("adapter") not in dropped}
            event = {"event": "forgot", "source": source, "examples": gone, "adapters": dropped, "stays": stays}
            remove = [*(f"{HOME}/adapters/{name}/" for name in dropped), *(learned_path(name) for name in unlearned)]
            store.commit(staged, event, remove=remove)
    return Forgotten(source, gone, dropped, stays)


def _trained_domains(store: ModelStore) -> set[str]:
    """Return the domains that `lifelong train` taught."""
    return {event["domain"] for event in store.history() if event["event"] == "train" and event.get("domain")}


def _is_of(name: str, source: str) -> bool:
    """Whether a file is the source, or lies below it."""
    own, asked = Path(name).expanduser().resolve(), Path(source).expanduser().resolve()
    return name == source or own == asked or asked in own.parents


def _goes_on_from(item: dict[str, Any], dropped: list[str], state: dict[str, Any]) -> bool:
    """Whether an adapter that is kept is a later version of one that is dropped."""
    if item["name"] in dropped:
        return False
    earlier = state["adapters"][: state["adapters"].index(item)]
    return any(other["name"] in dropped and other["domain"] == item["domain"] for other in earlier)
