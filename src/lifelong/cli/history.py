"""`lifelong history`."""

from __future__ import annotations

from typing import Any

from lifelong.cli.common import AsJson, Model, emit, print_table, spell_value

# Where an event has such a fact, it is shown; `--json` has them all.
_COLUMNS = ("generation", "event", "phase", "session", "undone_session", "domain", "mode", "accepted", "bits_per_byte")


def history(model: Model, *, as_json: AsJson = False) -> None:
    """What a model was taught, oldest first: lessons kept and undone, trainings and rollbacks."""
    from lifelong.learn.ledger import read_history

    events: list[dict[str, Any]] = read_history(model)

    def show() -> None:
        shown = [name for name in _COLUMNS if any(event.get(name) is not None for event in events)]
        rows = [[spell_value(event[name]) if event.get(name) is not None else "" for name in shown] for event in events]
        if rows:
            print_table([name.replace("_", " ") for name in shown], rows)
        else:
            print("Nothing is recorded about this model.")

    emit({"events": events}, as_json=as_json, show=show)
