"""One page on a model directory, or on a run: how it learned, what each session did, what it was taught."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import Matrix
from lifelong.learn.domains import list_domains
from lifelong.learn.ledger import SESSIONS, read_history
from lifelong.model.directory import is_model_directory
from lifelong.model.store import ModelStore
from lifelong.report.html import is_report, write_report
from lifelong.train.folder import RunFolder

_RUN = "run.json"


def write_page(place: Path, out: Path | None = None) -> dict[str, Any]:
    """Write a self-contained HTML page on a model directory or a run; returns what it shows.

    Args:
        place: the model directory or the run.
        out: the page (default: ``NAME-report.html`` in the working directory); an earlier report is replaced.

    Raises:
        LifelongError: ``place`` is neither, ``out`` is something else than a report, or the disk refused.
    """
    out = out or Path(f"{place.resolve().name}-report.html")
    if out.is_dir() or (out.exists() and not is_report(out)):
        raise LifelongError(
            "this is not a report, and a report would replace it", where=str(out), fix="Name another file with --out."
        )
    if (place / _RUN).is_file():
        runs = {_label(place): RunFolder(place).metrics()}
        matrix, facts, notes = None, _run_facts(RunFolder(place).facts), []
    elif is_model_directory(place):
        folders = [folder for folder in sorted((place / "runs").glob("*")) if (folder / _RUN).is_file()]
        runs = {_label(folder): RunFolder(folder).metrics() for folder in folders}
        raw = ModelStore.open(place).state().get("matrix")
        matrix = Matrix.from_dict(raw) if raw else None
        facts, notes = _model_facts(place), _history(place)
    else:
        raise LifelongError(
            "neither a model directory nor a run", where=str(place), fix="Name a directory that `lifelong train` made."
        )
    runs = {name: rows for name, rows in runs.items() if rows}
    write_report(out, title=place.resolve().name, facts=facts, notes=notes, runs=runs, matrix=matrix)
    return {"page": str(out), "runs": list(runs), "sessions": matrix.sessions if matrix else []}


def _label(folder: Path) -> str:
    return folder.resolve().name


def _run_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    shown = ("status", "steps", "epochs", "tokens", "learning_rate", "precision", "device", "compile")
    return {name.replace("_", " "): _spell(facts[name]) for name in shown if facts.get(name) is not None}


def _model_facts(place: Path) -> dict[str, str]:
    facts = {"sessions": str(sum(event["event"] in SESSIONS for event in read_history(place)))}
    for item in list_domains(place):
        bits = item["bits_per_byte"]
        parts = ["not measured" if bits is None else f"{bits:.3f} bits per byte", f"{item['remembered']:,} remembered"]
        parts += [f"adapter {', '.join(item['adapters'])}"] if item["adapters"] else []
        facts[item["domain"]] = "; ".join(parts)
    return facts


def _history(place: Path) -> list[str]:
    lines = []
    for event in read_history(place):
        kind, domain = event["event"], event.get("domain") or ""
        word = {True: "kept", False: "undone"}.get(event.get("accepted"), "")  # type: ignore[arg-type]
        if kind == "rollback":
            word = f"back to state {event['to']}"
        elif kind == "forgot":
            word = f"{progress.spell_count(event['examples'], 'example')} of {event['source']}"
        parts = [f"{event['generation']}: {kind}", domain, word, "; ".join(event.get("reasons", []))]
        if isinstance(event.get("undone"), dict):
            mode = "an adapter" if event["undone"]["mode"] == "adapter" else "all weights"
            parts.append(f"not kept, {mode}: " + "; ".join(event["undone"]["reasons"]))
        lines.append(", ".join(part for part in parts if part))
    return lines


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
