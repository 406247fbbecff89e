"""`lifelong rag-eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit, print_table
from lifelong.cli.search import Embedder, Store


def rag_eval(
    store: Store,
    questions: Annotated[
        Path,
        Parameter(help="Rows (.jsonl, .json, .csv) with `question` and `references` (source, start, end)."),
    ],
    *,
    qrels: Annotated[Path | None, Parameter(help="Judgements: `id 0 source grade` or `id source grade`.")] = None,
    mode: Annotated[
        list[Literal["keyword", "vector", "hybrid"]] | None,
        Parameter(negative=(), help="By default all that the store can do."),
    ] = None,
    k: Annotated[int, Parameter(help="Ranks that count.")] = 10,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well a store finds what it should: nDCG, recall, mean reciprocal rank, characters covered."""
    from lifelong import progress
    from lifelong.errors import LifelongError
    from lifelong.retrieve.questions import read_questions
    from lifelong.retrieve.scoring import score
    from lifelong.retrieve.store import MODES, SimpleDocumentStore

    if k < 1:
        raise LifelongError(f"--k {k}: at least one rank has to count")
    opened = SimpleDocumentStore.load(store, embedder=embedder)
    asked = read_questions(questions, qrels)
    modes: list[str] = list(mode) if mode else (list(MODES) if opened.facts["embedder"] else ["keyword"])
    results: dict[str, dict[str, float]] = {}
    for name in modes:
        with progress.task(f"Asking, {name}", total=len(asked)) as shown:
            results[name] = score(opened, asked, mode=name, k=k, progress=shown)
    facts: dict[str, Any] = {"questions": len(asked), "chunks": len(opened), "k": k, "modes": results}

    def show() -> None:
        measures = list(next(iter(results.values())))
        titles = [name if name == "covered" else f"{name}@{k}" for name in measures]
        rows = [[name, *(f"{found[measure]:.3f}" for measure in measures)] for name, found in results.items()]
        print_table(["mode", *titles], rows, title=f"{len(asked):,} questions, {len(opened):,} chunks")

    emit(facts, as_json=as_json, show=show)
