"""What a model directory has learned: its history and matrix; and going back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import Matrix
from lifelong.learn.naming import Asked
from lifelong.learn.recovery import recover
from lifelong.locks import writer_lock
from lifelong.model.directory import find_model
from lifelong.model.store import FOLDER, ModelStore
from lifelong.text.memory import read_slice
from lifelong.train.founding import MEMORY

SESSIONS = ("lesson", "consolidation")  # events that were measured, and kept or undone


def read_history(model: Path) -> list[dict[str, Any]]:
    """Return the events of a model directory, oldest first."""
    return ModelStore.open(find_model(model)).history()


def line_of(model: Path) -> set[int]:
    """Return the state in force, and those that it was made from."""
    store = ModelStore.open(find_model(model))
    return _ancestors(store, store.head())


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


def rollback(model: Path, session: int | None = None, *, to: int | None = None) -> dict[str, Any]:
    """Go back to the state before a lesson (default: the last one in force). The history keeps what was undone.

    Args:
        model: a model directory.
        session: the lesson.
        to: a state by its number in the history instead, whatever was done since: trainings, too. One that was rolled
            back itself comes back.

    Returns:
        the event that was added to the history: ``also_undone`` names later lessons, trainings and imports that went
        with it, ``back`` those that came back, ``back_again`` the sources that were forgotten later, and are back.

    Raises:
        LifelongError: there is no such lesson in force, or no such state, or it was purged.
    """
    if session is not None and to is not None:
        raise LifelongError("give either a lesson to undo or --to STATE")
    root = find_model(model)
    store = ModelStore.open(root)
    with writer_lock(store.home):
        recover(store)
        return _undo_lesson(store, session) if to is None else _go_to(store, to)


def _undo_lesson(store: ModelStore, session: int | None) -> dict[str, Any]:
    lessons = in_force(store)
    if session is not None:
        lessons = [event for event in lessons if event["session"] == session]
    if not lessons:
        which = "no lesson is in force" if session is None else f"lesson {session} is not in force"
        fix = "See `lifelong history`; `lifelong rollback MODEL --to STATE` goes to any state, also before a training."
        raise LifelongError(f"{which}, nothing to roll back", where=str(store.root), fix=fix)
    undone = lessons[-1]
    target = store.parent(undone["generation"])
    if not target:
        raise LifelongError(
            "the state before this lesson was not recorded: it cannot be brought back", where=str(store.root)
        )
    facts = {"undone": _what(undone), "undone_session": undone["session"], "domain": undone["domain"]}
    return _commit(store, target, undone["generation"], facts)


def _go_to(store: ModelStore, to: int) -> dict[str, Any]:
    head = store.head()
    if to == head or to not in {event["generation"] for event in store.history()}:
        what = "is the one in force" if to == head else "is not in its history"
        raise LifelongError(f"state {to} {what}", where=str(store.root), fix="See `lifelong history`.")
    return _commit(store, to, to, {"undone": f"what was done since state {to}"})


def _commit(store: ModelStore, target: int, since: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Make a state the one in force; what came after the state ``since`` is named."""
    now, then = _ancestors(store, store.head()), _ancestors(store, target)
    history = store.history()
    lessons = [event for event in history if event["generation"] in then and event["event"] == "lesson"]
    taught = [name for event in lessons if event["accepted"] for name in event["sources"]]
    remembered = store.content(target, MEMORY)
    names = {*taught, *(document.source for document in (read_slice(remembered) if remembered else []))}

    def knew(forgot: dict[str, Any]) -> bool:
        asked = Asked(forgot["source"], history, forgot.get(FOLDER))
        return any(asked.covers(name) for name in names)

    gone = [event for event in history if event["generation"] in now - _ancestors(store, since)]
    back = [event for event in history if event["generation"] in then - now]
    event = {
        "event": "rollback",
        **facts,
        "to": target,
        "also_undone": [line for event in gone if (line := _what(event))],
        "back": [line for event in back if (line := _what(event))],
        "back_again": [event["source"] for event in gone if event["event"] == "forgot" and knew(event)],
    }
    return {"generation": store.commit(None, event, base=target), **event}


def _what(event: dict[str, Any]) -> str | None:
    """Return in words what is undone with an event; None where it changed nothing that a model knows."""
    kind = event["event"]
    if kind in SESSIONS:
        return f"{kind} {event['session']} ({event['domain']})" if event["accepted"] else None
    if kind == "import" and event.get("from") == "adapter":
        return f"import ({event['domain']})"
    return f"training ({event['domain']})" if kind == "train" else None


def _ancestors(store: ModelStore, generation: int) -> set[int]:
    found = set()
    while generation:
        found.add(generation)
        generation = store.parent(generation)
    return found
