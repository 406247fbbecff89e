"""`lifelong search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit

Store = Annotated[Path, Parameter(help="The folder of a store, as `lifelong index` makes it.")]
Mode = Annotated[
    Literal["keyword", "vector", "hybrid"], Parameter(help="By words (BM25), by vectors, or both fused by rank.")
]
Only = Annotated[
    list[str] | None,
    Parameter(name="--source", negative=(), help="Only these sources: a file as it was named, or a beginning and *."),
]
Embedder = Annotated[str | None, Parameter(help="Where the model that made the vectors is now.")]


def search(
    store: Store,
    query: Annotated[str, Parameter(help="A question, or words.")],
    *,
    top_k: Annotated[int, Parameter(help="Passages at most.")] = 5,
    mode: Mode = "keyword",
    source: Only = None,
    embedder: Embedder = None,
    as_json: AsJson = False,
) -> None:
    """Find passages in a store."""
    from lifelong.retrieve.store import SimpleDocumentStore

    opened = SimpleDocumentStore.load(store, embedder=embedder)
    hits = opened.search(query, top_k, mode, {"source": source} if source else None)

    def show() -> None:
        if not hits:
            print("Not found: nothing in the store matches.")
        for number, hit in enumerate(hits, start=1):
            above = " > ".join(hit.passage.headings)
            print(f"{number}. {hit.passage.place}  ({hit.score:.3f}){'  ' + above if above else ''}")
            print("\n".join(f"   {line}" for line in hit.text.splitlines()) + "\n")

    emit({"query": query, "mode": mode, "hits": [hit.row() for hit in hits]}, as_json=as_json, show=show)
