"""Making a model forget a source: its examples, its adapters, and with a purge every trace of its text."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import remove_file, remove_tree, write_text
from lifelong.learn.commit import stage_state
from lifelong.learn.fisher import guarded_domains
from lifelong.learn.ledger import in_force
from lifelong.learn.naming import Asked
from lifelong.learn.recovery import recover
from lifelong.locks import writer_lock
from lifelong.model.directory import find_model
from lifelong.model.store import FOLDER, HOME, ModelStore
from lifelong.text.document import Document
from lifelong.text.memory import ReplayMemory, read_slice, write_documents
from lifelong.train.folder import RUNS, RunFolder
from lifelong.train.founding import FISHER, MEMORY, learned_path, slice_path

_HELD = ("gate", "test")
_MODELS = ("epoch_*", "best", "latest", "final", "checkpoints/step-*")  # model directories in a run's folder


@dataclass(frozen=True)
class Forgotten:
    """What went with a source, and what stays.

    Of a purge, too: how many ``held_out`` documents left the frozen slices, the ``models`` in the runs that are gone
    since they held its text, and the bytes of the disk that this freed.
    """

    source: str
    examples: int
    adapters: list[str]
    stays: list[str]
    held_out: int = 0
    freed_bytes: int = 0
    models: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return dict(self.__dict__)


def forget(model: Path, source: str, *, purge: bool = False) -> Forgotten:
    """Drop a source: its examples in the replay memory, and the adapters that were taught it alone.

    What was learned with all weights stays in them: each such lesson is named. Held-out slices stay, too, since the
    matrix rests on them; they are never trained on. So do earlier states of the directory, which hold what was dropped.

    A purge leaves none of its text in the directory: its held-out documents go (the matrix keeps its figures, and a
    note that later ones are of other text), all earlier states, which cannot be rolled back to any more, and of the
    runs the token caches, the excerpts of suspect text, and the models that hold its text. What is in force is switched
    at once; a purge that is cut off after that is finished by the next command that writes here, one that is cut off
    before it can be asked for again. Only the weights, and what the model wrote itself, can still tell of it.

    Args:
        model: a model directory.
        source: a file or folder as it was named in a lesson, or one below it; or the name of a text from Python.
        purge: leave no trace of its text.

    Raises:
        LifelongError: nothing of this source is remembered, and no lesson in force was taught it.
    """
    if not source.strip():
        raise LifelongError("no source is named", where="--source", fix="Name a file, a folder, or a text's name.")
    root = find_model(model)
    store = ModelStore.open(root)
    with writer_lock(root / HOME):
        recover(store)
        store.check()
        asked = Asked(source, store.history())
        state = store.state()
        memory = ReplayMemory.load(root / MEMORY)
        memory.capacity = max(memory.capacity, memory.size)
        trained = _trained_domains(store)
        gone, stays = _drop_examples(memory, asked, trained, guarded_domains(root / FISHER))
        held = _held_of(root, state, asked)
        held_out = sum(len(mine) for mine, _ in held.values())
        known = bool(gone or held_out or Path(source).expanduser().exists())
        dropped, unlearned, taught = _drop_lessons(in_force(store), state, asked, known=known, purge=purge)
        stays += taught
        if not (gone or dropped or stays or (purge and (held_out or _was_known(store, source)))):
            remembered = sorted({example.source for example in memory.documents()})
            raise LifelongError(
                f"nothing of '{source}' is known",
                where=str(root),
                fix=f"Remembered sources: {', '.join(remembered[:8]) or 'none'}{' …' if len(remembered) > 8 else ''}.",
            )
        if gone and not purge:
            stays.append("earlier states of the directory still hold its text, to be rolled back to (--purge)")
        if held_out and not purge:
            stays.append(
                f"{held_out:,} held-out documents of it, which the matrix rests on; they are never trained on (--purge)"
            )
        later = [item["name"] for item in state.get("adapters", []) if _goes_on_from(item, dropped, state)]
        stays += [f"adapter '{name}' went on from one that is dropped, and keeps what it took over" for name in later]
        if dropped and "matrix" in state:
            stays.append("the figures of `lifelong matrix`, which are of before; the next lesson measures anew")
            state["matrix"]["stale"] = f"measured before '{source}' was forgotten"
        freed, models = 0, list[str]()
        if purge:  # first: where this is cut off, the source is still known, and can be purged again
            freed, models, left = _purge_runs(root, asked)
            stays += left
        state["adapters"] = [item for item in state.get("adapters", []) if item["name"] not in dropped]
        state["memory"] = memory.counts()
        # Where no lesson of the domain is left, its text is new again.
        unlearned -= trained | {item["domain"] for item in state["adapters"]}
        remove = [*(f"{HOME}/adapters/{name}/" for name in dropped), *(learned_path(name) for name in unlearned)]
        with store.staging() as staged:
            memory.save(staged / MEMORY)
            if purge:
                remove += _stage_slices(staged, held, state)
            stage_state(staged, root, state)
            event: dict[str, Any] = {"event": "forgot", "source": source, FOLDER: str(Path.cwd())}
            event |= {"examples": gone, "adapters": dropped, "stays": stays}
            if purge:
                event |= {"purged": True, "held_out": held_out}
            store.commit(staged, event, remove=remove, purge=purge)
        if purge:
            freed += store.sweep()
    return Forgotten(source, gone, dropped, stays, held_out if purge else 0, freed, models)


def _drop_examples(
    memory: ReplayMemory, asked: Asked, trained: set[str], guarded: Collection[str]
) -> tuple[int, list[str]]:
    """Take a source's examples out of a memory; returns how many, and what stays of them all the same.

    Args:
        memory: the memory.
        asked: what is to go.
        trained: the domains that were trained into all weights.
        guarded: those whose needs EWC knows without their text.
    """
    gone, stays = 0, []
    for domain, examples in memory.examples.items():
        kept = [example for example in examples if not asked.covers(example.source)]
        if domain in trained and len(kept) < len(examples):
            stays.append(f"domain '{domain}' was trained into all weights: only training anew without it undoes that")
        if domain in guarded and len(kept) < len(examples):
            stays.append(f"what the weights need for domain '{domain}': EWC goes on guarding it in lessons")
        gone += len(examples) - len(kept)
        memory.examples[domain] = kept
    return gone, stays


def _drop_lessons(
    sessions: list[dict[str, Any]], state: dict[str, Any], asked: Asked, *, known: bool, purge: bool
) -> tuple[list[str], set[str], list[str]]:
    """Return the adapters to drop, the domains of which no lesson is left, and what stays of other lessons.

    Where the source is ``known`` to be a text, lessons on a folder that it lies in have learned it, too.
    """
    dropped: list[str] = []
    unlearned, left = set[str](), set[str]()
    stays: list[str] = []
    made = {item["session"]: item["name"] for item in state.get("adapters", [])}
    for event in sessions:
        names = event.get("sources", [])
        whole = any(asked.covers(name) for name in names)
        if event["event"] != "lesson" or not (whole or (known and any(asked.is_below(name) for name in names))):
            left.add(event["domain"])
            continue
        where = f"lesson {event['session']} ({event['domain']})"
        others = [name for name in names if not asked.covers(name)]
        name = made.get(event["session"])
        if event["adapter"] is None:
            undo = "only training anew undoes that" if purge else "rolling it back undoes it and all after it"
            stays.append(f"{where} was taught with all weights: {undo}")
        elif _folded(event, sessions):
            stays.append(f"{where}: its adapter '{event['adapter']}' was folded into the weights")
        elif name is None:  # it was forgotten earlier
            continue
        elif not whole:
            stays.append(f"{where}: the adapter '{name}' learned it with the rest of {', '.join(others)}")
        elif others:
            stays.append(f"{where}: the adapter '{name}' learned from {', '.join(others)}, too")
        else:
            dropped.append(name)
            unlearned.add(event["domain"])
            continue
        left.add(event["domain"])
    return dropped, unlearned - left, stays


def _folded(lesson: dict[str, Any], sessions: list[dict[str, Any]]) -> bool:
    """Whether a later consolidation took a lesson's adapter in."""
    return any(
        event["event"] == "consolidation"
        and event["session"] > lesson["session"]
        and lesson["adapter"] in event["adapters"]
        for event in sessions
    )


def _was_known(store: ModelStore, source: str) -> bool:
    """Whether a source was forgotten earlier: what that left can still be purged."""
    return any(event["event"] == "forgot" and event["source"] == source for event in store.history())


_Slices = dict[tuple[str, str], tuple[list[Document], list[Document]]]


def _held_of(root: Path, state: dict[str, Any], asked: Asked) -> _Slices:
    """Return of each slice (domain, split) that holds documents of a source: those, and the others."""
    found: _Slices = {}
    for domain in state.get("domains", []):
        for split in _HELD:
            path = root / slice_path(domain, split)
            documents = read_slice(path) if path.is_file() else []
            own = {name for name in {document.source for document in documents} if asked.covers(name)}
            if own:
                mine = [document for document in documents if document.source in own]
                found[domain, split] = mine, [document for document in documents if document.source not in own]
    return found


def _stage_slices(staged: Path, held: _Slices, state: dict[str, Any]) -> list[str]:
    """Stage the slices without a source's documents, and say so in the matrix; returns those that are empty now."""
    empty = []
    for (domain, split), (mine, others) in held.items():
        if others:
            write_documents(others, staged / slice_path(domain, split))
        else:
            empty.append(slice_path(domain, split))
        if split == "test" and domain in state.get("matrix", {}).get("domains", ()):
            after = len(state["matrix"]["sessions"]) - 1
            state["matrix"].setdefault("notes", {})[domain] = (
                f"{len(mine):,} of its {len(mine) + len(others):,} test documents were purged after row {after}: "
                "later figures are of other text"
            )
    return empty


def _purge_runs(root: Path, asked: Asked) -> tuple[int, list[str], list[str]]:
    """Take text out of the runs; returns the bytes freed, the models that are gone, and what else to say.

    All token caches go, since a later lesson's replay holds earlier sources.
    """
    freed, gone, stays = 0, list[str](), list[str]()
    for folder in sorted((root / RUNS).glob("*")):
        run = RunFolder(folder)
        if run.resumable():
            stays.append(f"{folder.name} had not ended, and cannot be resumed: its caches are gone")
        freed += remove_tree(folder / "cache")
        models = [place for pattern in _MODELS for place in sorted(folder.glob(pattern)) if _holds(place, asked)]
        freed += sum(remove_tree(place) for place in models)
        gone += [place.relative_to(root).as_posix() for place in models]
        rows = run.metrics()
        if any("samples" in row for row in rows):  # how suspect documents begin; the log has them, too
            kept = [{key: value for key, value in row.items() if key != "samples"} for row in rows]
            write_text(run.metrics_file, "".join(f"{json.dumps(row)}\n" for row in kept))
            freed += remove_file(run.log_file) if run.log_file.is_file() else 0
        if run.samples_file.is_file():
            stays.append(f"what the model wrote itself, in {folder.name}/{run.samples_file.name}")
    return freed, gone, stays


def _holds(place: Path, asked: Asked) -> bool:
    """Whether a model directory in a run holds text of a source, in its memory or its slices."""
    names = {document.source for path in _texts(place) for document in read_slice(path)}
    return any(asked.covers(name) for name in names)


def _texts(place: Path) -> Iterator[Path]:
    if (place / MEMORY).is_file():
        yield place / MEMORY
    for split in _HELD:
        yield from sorted(place.glob(slice_path("*", split)))


def _trained_domains(store: ModelStore) -> set[str]:
    """Return the domains that `lifelong train` taught."""
    return {event["domain"] for event in store.history() if event["event"] == "train" and event.get("domain")}


def _goes_on_from(item: dict[str, Any], dropped: list[str], state: dict[str, Any]) -> bool:
    """Whether an adapter that is kept is a later version of one that is dropped."""
    if item["name"] in dropped:
        return False
    earlier = state["adapters"][: state["adapters"].index(item)]
    return any(other["name"] in dropped and other["domain"] == item["domain"] for other in earlier)
