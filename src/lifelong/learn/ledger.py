"""What a model directory has learned: its history and matrix; and going back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import Matrix
from lifelong.files import read_json
from lifelong.model.directory import find_model
from lifelong.model.store import ModelStore

SESSIONS = ("lesson", "consolidation")  # events that were measured, and kept or undone


def read_history(model: Path) -> list[dict[str, Any]]:
    """Return the events of a model directory, oldest first."""
    return ModelStore.open(find_model(model)).history()


def read_matrix(model: Path) -> Matrix:
    """Return the forgetting matrix of the state in force.

    Raises:
        LifelongError: the model has had no lesson yet.
    """
    raw = ModelStore.open(find_model(model)).state().get("matrix")
    if raw is None:
        raise LifelongError(
            "this model has had no lesson yet, so there is no matrix",
            where=str(model),
            fix="Teach it: lifelong learn MODEL SOURCE --domain NAME",
        )
    return Matrix.from_dict(raw)


def in_force(store: ModelStore) -> list[dict[str, Any]]:
    """Return the sessions that were kept and are part of the state in force, oldest first."""
    line = _ancestors(store, store.head())
    return [
        event
        for event in store.history()
        if event["event"] in SESSIONS and event["accepted"] and event["generation"] in line
    ]


def rollback(model: Path, session: int | None = None) -> dict[str, Any]:
    """Go back to the state before a lesson (default: the last one in force). The history keeps what was undone.

    Returns:
        the event that was added to the history.

    Raises:
        LifelongError: there is no such lesson in force.
    """
    root = find_model(model)
    store = ModelStore.open(root)
    lessons = in_force(store)
    if session is not None:
        lessons = [event for event in lessons if event["session"] == session]
    if not lessons:
        which = "no lesson is in force" if session is None else f"lesson {session} is not in force"
        raise LifelongError(f"{which}, nothing to roll back", where=str(root), fix="See `lifelong history`.")
    undone = lessons[-1]
    target = _parent(store, undone["generation"])
    event = {"event": "rollback", "undone_session": undone["session"], "domain": undone["domain"], "to": target}
    number = store.commit(None, event, base=target)
    return {"generation": number, **event}


def _parent(store: ModelStore, generation: int) -> int:
    return int(read_json(store.home / "generations" / f"{generation:04d}.json")["parent"])


def _ancestors(store: ModelStore, generation: int) -> set[int]:
    found = set()
    while generation:
        found.add(generation)
        generation = _parent(store, generation)
    return found
