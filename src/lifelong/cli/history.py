"""`lifelong history`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lifelong import progress
from lifelong.cli.common import AsJson, Model, emit, print_table

_BITS = "bits per byte"
_BITS_MEAN = f"{_BITS}: what the domain's held-out text costs the model; lower is better."
_STATES_MEAN = "state: where `lifelong rollback MODEL --to STATE` goes back to; * is in force, and what it is made of."
_GATE = {"failed": " as asked for, against the gate", "unmeasured": ", unmeasured"}


def history(model: Model, *, as_json: AsJson = False) -> None:
    """What a model was taught, oldest first: lessons kept and undone, trainings and rollbacks."""
    from lifelong.learn.ledger import line_of, read_history

    events: list[dict[str, Any]] = read_history(model)
    line = line_of(model)

    def show() -> None:
        if events:
            rows = [_row(event, in_force=event["generation"] in line) for event in events]
            print_table(["state", "day", "event", "domain", "outcome"], rows)
            if any(_BITS in row[-1] for row in rows):
                print(_BITS_MEAN)
            print(_STATES_MEAN)
        else:
            print("Nothing is recorded about this model.")

    emit({"events": events}, as_json=as_json, show=show)


def _row(event: dict[str, Any], *, in_force: bool) -> list[str]:
    phase = event.get("phase", "train") + {"further": " further", "base": " of a base"}.get(event.get("from", ""), "")
    label = {
        "consolidation": f"consolidation {event.get('session', '')}",
        "train": phase,
        "lesson": f"lesson {event.get('session', '')}",
    }
    outcome = ""
    if "accepted" in event:
        outcome = "kept" if event["accepted"] else "undone"
        outcome += _GATE.get(event.get("gate", ""), "") if event["accepted"] else ""
        if 0 < event.get("scale", 1.0) < 1:
            outcome += f", {event['scale']:.0%} of its way"
        if other := event.get("undone"):
            if not event["accepted"]:
                outcome += ", all weights and an adapter"
            elif event["mode"] == "full":
                outcome += "; an adapter taught less"
            else:
                outcome += ", in an adapter: all weights " + ("taught less" if other.get("passed") else "were undone")
    elif event.get("bits_per_byte") is not None:
        outcome = f"{event['bits_per_byte']:.3f} {_BITS}"
    elif event.get("event") == "export":
        outcome = _exported(event)
    elif event.get("event") == "import":
        outcome = f"adapter of {event['source']}" if event.get("from") == "adapter" else f"of {event['base']}"
    elif event.get("event") == "adopted":
        outcome = "the model as it was found"
    elif event.get("event") == "forgot":
        outcome = f"{progress.spell_count(event['examples'], 'example')} of {event['source']}"
        if event.get("purged"):
            outcome += "; earlier states purged"
    elif event.get("event") == "rollback":
        undone = f"{event['undone'].partition(' (')[0]} undone, " if "undone_session" in event else ""
        outcome = f"{undone}back to state {event['to']}"
    kind = str(event.get("event", ""))
    number = f"{event['generation']}{'*' if in_force else ''}"
    return [number, _day(event.get("time")), label.get(kind, kind), str(event.get("domain", "")), outcome]


def _day(time: str | None) -> str:
    return "" if time is None else datetime.fromisoformat(time).strftime("%d %b")


def _exported(event: dict[str, Any]) -> str:
    """Return what a pipeline checked and wrote: the model directory is a Hugging Face one, in place."""
    target = "Hugging Face" if event["to"] == "huggingface" else str(event["to"])
    precision = f" in {event['precision']}" if event.get("precision") else ""
    onnx = f"; ONNX in {event['onnx']}" if event.get("onnx") else ""
    return f"{target} files{precision}, in place{onnx}"
