"""`lifelong ask`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lifelong import progress
from lifelong.cli.common import Adapter, AsJson, Greedy, Model, configurable, drawing, emit, note_if_alone
from lifelong.cli.search import Embedder, Only, Store
from lifelong.settings.retrieve import AskSettings


@configurable(AskSettings)
def ask(
    model: Model,
    store: Store,
    question: Annotated[str, Parameter(help="What to answer.")],
    *,
    source: Only = None,
    embedder: Embedder = None,
    greedy: Greedy = False,
    settings: AskSettings,
    adapter: Adapter = "routed",
    as_json: AsJson = False,
) -> None:
    """Answer a question with passages of a store, and say where they stand."""
    from lifelong.model.directory import load_model
    from lifelong.retrieve.answering import RAGModel
    from lifelong.retrieve.store import SimpleDocumentStore, check_query

    settings = drawing(settings, greedy=greedy)
    check_query(question)
    opened = SimpleDocumentStore.load(store, embedder=embedder)
    loaded, tokenizer = load_model(model, device=settings.device, adapter=adapter)
    note_if_alone(loaded, settings)
    sampling = settings.sampling()
    answer = RAGModel(opened, loaded, tokenizer).generate(
        question,
        settings.passages,
        settings.max_tokens,
        settings.temperature,
        mode=settings.mode,
        filters={"source": source} if source else None,
        on_text=None if as_json else lambda piece: print(piece, end="", flush=True),
        sample_top_k=sampling.pop("top_k"),
        **sampling,
    )
    sources = [hit.row() for hit in answer.sources]
    facts = {"question": question, "answer": str(answer), "found": answer.found, "sources": sources}

    def show() -> None:
        print()
        if answer.found and not str(answer).strip():
            progress.note("note: the model had nothing to say to these passages; another --seed may bring more")
        if answer.sources:
            print(answer.cited.removeprefix(str(answer)))

    emit(facts, as_json=as_json, show=show)
