"""Recording a lesson, and switching the model to it if it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.files import write_json
from lifelong.learn.fisher import RunningFisher
from lifelong.learn.ledger import SESSIONS
from lifelong.learn.lesson import Lesson, LessonResult
from lifelong.model.adapters import save_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import fingerprint, model_card, write_model_files
from lifelong.model.store import FOLDER, HOME, ModelStore
from lifelong.text.document import Document
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.train.founding import FISHER, MEMORY, stage_domain, write_state


def next_session(store: ModelStore) -> int:
    """Return the number of the next session: lessons and consolidations, kept or not, are counted from 1."""
    return 1 + sum(event["event"] in SESSIONS for event in store.history())


def record_path(session: int, name: str) -> str:
    """Return where the ledger's record of a session lies in a model directory."""
    return f"{HOME}/sessions/{session:04d}-{name}.json"


def commit_lesson(lesson: Lesson, result: LessonResult) -> None:
    """Record the lesson; switch the model to it only if it was accepted."""
    settings, store = lesson.settings, lesson.store
    record = record_path(result.session, settings.domain)
    event: dict[str, Any] = {
        "event": "lesson",
        "session": result.session,
        "domain": settings.domain,
        "accepted": result.accepted,
        "mode": lesson.mode,
        "scale": result.scale,
        "adapter": lesson.moving.name if lesson.moving.adapter else None,
        "run": result.run.relative_to(lesson.root).as_posix(),
        "sources": lesson.sources,
        FOLDER: str(Path.cwd()),
        "gate": _word(result, settings.domain),
        "reasons": result.decision.reasons,
    }
    if result.undone is not None:
        event["undone"] = result.undone.figures(lesson.root)
    if store.adopt():
        progress.note(f"What lay in {lesson.root} is kept as the first state of its history.")
    with store.staging() as staged:
        if result.accepted:
            _stage_model(lesson, result, staged)
            _stage_fisher(lesson.fisher, staged)
        facts = {
            **result.to_dict(),
            "model": None,
            "run": event["run"],
            "sources": lesson.sources,
            "data_sha256": _digest(lesson.corpus.train),
            "settings": settings.model_dump(mode="json"),
            "flops": result.flops + (result.undone.flops if result.undone else 0.0),
            "fisher_bytes": _fisher_bytes(staged, lesson.root),
        }
        write_json(staged / record, facts)
        store.commit(staged, event)


def commit_consolidation(
    store: ModelStore,
    model: LanguageModel,
    tokenizer: Tokenizer,
    facts: dict[str, Any],
    memory: ReplayMemory,
    fisher: RunningFisher | None,
    *,
    accepted: bool,
) -> None:
    """Record a consolidation; make the plain weights the model, without adapters, only if it was accepted."""
    number = next_session(store)
    event: dict[str, Any] = {
        "event": "consolidation",
        "session": number,
        "domain": ", ".join(facts["adapters"]),
        "accepted": accepted,
        "adapters": facts["adapters"],
        "share": facts["share"],
        "run": Path(facts["run"]).relative_to(store.root).as_posix(),
        "reasons": facts["reasons"],
    }
    with store.staging() as staged:
        record = staged / record_path(number, "consolidation")
        if accepted:
            write_model_files(model, tokenizer, staged)
            memory.save(staged / MEMORY)
            state = store.state()
            state.update(
                adapters=[], base_fingerprint=fingerprint(model), memory=memory.counts(), matrix=facts["matrix"]
            )
            stage_state(staged, store.root, state)
            _stage_fisher(fisher, staged)
        size = _fisher_bytes(staged, store.root)
        write_json(record, {**facts, "model": None, "run": event["run"], "fisher_bytes": size})
        store.commit(staged, event, remove=(f"{HOME}/adapters/",) if accepted else ())


def _word(result: LessonResult, domain: str) -> str:
    """Return in a word what the gate said."""
    if not result.decision.accepted:
        return "failed"
    return "passed" if domain in result.changes else "unmeasured"


def _stage_fisher(fisher: RunningFisher | None, staged: Path) -> None:
    # Where nothing has joined, the file of the generation before stays.
    if fisher is not None and fisher.changed:
        fisher.save(staged / FISHER)


def _fisher_bytes(staged: Path, root: Path) -> int:
    """Return the size of the Fisher file that a session leaves."""
    path = staged / FISHER if (staged / FISHER).is_file() else root / FISHER
    return path.stat().st_size if path.is_file() else 0


def _stage_model(lesson: Lesson, result: LessonResult, staged: Path) -> None:
    settings, state = lesson.settings, lesson.store.state()
    known = list(state.get("domains", []))
    moving = lesson.moving
    adapters = list(state.get("adapters", []))
    if moving.adapter:
        save_adapter(lesson.model, moving.saved, staged / HOME / "adapters" / moving.name)
        adapters.append({"name": moving.name, "domain": settings.domain, "session": result.session})
    else:
        write_model_files(lesson.model, lesson.tokenizer, staged)
    facts = stage_domain(
        staged, lesson.root, lesson.corpus, settings.domain, capacity=settings.replay_buffer_size, seed=settings.seed
    )
    domains = known if settings.domain in known else [*known, settings.domain]
    state.update(
        format=1,
        domains=domains,
        adapters=adapters,
        memory=facts["memory"],
        matrix=result.matrix.to_dict(),
    )
    # An adapter is for these weights, also where they were never written here.
    state["base_fingerprint"] = lesson.base_fingerprint if moving.adapter else fingerprint(lesson.model)
    stage_state(staged, lesson.root, state)


def stage_state(staged: Path, root: Path, state: dict[str, Any]) -> None:
    """Stage what is known of a model that has been taught: for programs, and as its card."""
    write_state(staged, state)
    card = {
        "domains": ", ".join(state.get("domains", [])),
        "adapters": ", ".join(item["name"] for item in state.get("adapters", [])) or "none",
        **({"matrix": state["matrix"]} if "matrix" in state else {}),
    }
    (staged / "README.md").write_text(model_card(root.name, card), encoding="utf-8")


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.text.encode("utf-8") + b"\0")
    return digest.hexdigest()
