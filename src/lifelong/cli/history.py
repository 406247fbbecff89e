"""`lifelong history`."""

from __future__ import annotations

from typing import Any

from lifelong.cli.common import AsJson, Model, emit, print_table


def history(model: Model, *, as_json: AsJson = False) -> None:
    """What a model was taught, oldest first: lessons kept and undone, trainings and rollbacks."""
    from lifelong.learn.ledger import read_history

    events: list[dict[str, Any]] = read_history(model)

    def show() -> None:
        if events:
            print_table(["state", "event", "domain", "outcome"], [_row(event) for event in events])
        else:
            print("Nothing is recorded about this model.")

    emit({"events": events}, as_json=as_json, show=show)


def _row(event: dict[str, Any]) -> list[str]:
    phase = event.get("phase", "train") + {"further": " further", "base": " of a base"}.get(event.get("from", ""), "")
    label = {
        "consolidation": f"consolidation {event.get('session', '')}",
        "train": phase,
        "lesson": f"lesson {event.get('session', '')}",
    }
    outcome = ""
    if "accepted" in event:
        outcome = "kept" if event["accepted"] else "undone"
        if event.get("undone"):
            outcome += (
                ", in an adapter: all weights were undone" if event["accepted"] else ", all weights and an adapter"
            )
        if 0 < event.get("scale", 1.0) < 1:
            outcome += f", {event['scale']:.0%} of its way"
    elif event.get("bits_per_byte") is not None:
        outcome = f"{event['bits_per_byte']:.3f} bits per byte"
    elif event.get("event") == "adopted":
        outcome = "the model as it was found"
    elif event.get("event") == "forgot":
        outcome = f"{event['examples']} examples of {event['source']}"
        if event.get("purged"):
            outcome += "; earlier states purged"
    elif event.get("event") == "rollback":
        undone = f"lesson {event['undone_session']} undone, " if "undone_session" in event else ""
        outcome = f"{undone}back to state {event['to']}"
    kind = str(event.get("event", ""))
    return [str(event.get("generation", "")), label.get(kind, kind), str(event.get("domain", "")), outcome]
