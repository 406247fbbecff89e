"""`lifelong history`."""

from __future__ import annotations

from typing import Any

from lifelong.cli.common import AsJson, Model, emit, print_table

_BITS = "bits per byte"
_BITS_MEAN = f"{_BITS}: what the domain's held-out text costs the model; lower is better."
_STATES_MEAN = "state: where `lifelong rollback MODEL --to STATE` goes back to."


def history(model: Model, *, as_json: AsJson = False) -> None:
    """What a model was taught, oldest first: lessons kept and undone, trainings and rollbacks."""
    from lifelong.learn.ledger import read_history

    events: list[dict[str, Any]] = read_history(model)

    def show() -> None:
        if events:
            rows = [_row(event) for event in events]
            print_table(["state", "event", "domain", "outcome"], rows)
            if any(_BITS in row[-1] for row in rows):
                print(_BITS_MEAN)
            print(_STATES_MEAN)
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
        outcome = f"{event['bits_per_byte']:.3f} {_BITS}"
    elif event.get("event") == "export":
        outcome = _exported(event)
    elif event.get("event") == "import":
        outcome = f"adapter of {event['source']}" if event.get("from") == "adapter" else f"of {event['base']}"
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


def _exported(event: dict[str, Any]) -> str:
    """Return what a pipeline checked and wrote: the model directory is a Hugging Face one, in place."""
    target = "Hugging Face" if event["to"] == "huggingface" else str(event["to"])
    precision = f" in {event['precision']}" if event.get("precision") else ""
    onnx = f"; ONNX in {event['onnx']}" if event.get("onnx") else ""
    return f"{target} files{precision}, in place{onnx}"
