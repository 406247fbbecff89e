"""`lifelong index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Sources, configurable, emit, spell_bytes
from lifelong.settings.retrieve import IndexSettings


@configurable(IndexSettings)
def index(
    sources: Sources,
    *,
    store: Annotated[Path, Parameter(help="The folder of the store; made where there is none.")],
    settings: IndexSettings,
    as_json: AsJson = False,
) -> None:
    """Put texts into a store that can be searched.

    Run again, it reads again what changed, and takes out what is gone.
    """
    from lifelong import progress
    from lifelong.retrieve.indexing import index_sources
    from lifelong.retrieve.store import SimpleDocumentStore

    opened = SimpleDocumentStore.open(store, embedding_dim=settings.embedding_dim, embedder=settings.embedder)
    if settings.embedder:
        progress.note(f"Vectors are made by {opened.compute_embeddings(settings.embedder)}")
    with progress.task("Indexing") as shown:
        report = index_sources(opened, sources, settings.splitting(), shown)
    facts: dict[str, Any] = {
        "store": str(store),
        **report.facts(),
        "embedder": opened.facts["embedder"],
        "chunks_in_store": len(opened),
    }
    emit(facts, as_json=as_json, show=lambda: _show(facts))


def _show(facts: dict[str, Any]) -> None:
    files = ", ".join(f"{facts[name]:,} {name}" for name in ("added", "changed", "unchanged", "removed"))
    print(f"files   {files}")
    print(
        f"chunks  {facts['chunks']:,} written ({spell_bytes(facts['bytes'])} of text), "
        f"{facts['chunks_removed']:,} removed, {facts['chunks_in_store']:,} in {facts['store']}"
    )
    if facts["torn"]:
        print(f"code    {facts['torn']:,} chunks are parts of code blocks that alone are longer than --max-length")
    for title in ("skipped", "notes", "problems"):
        for reason, count in sorted(facts[title].items()):
            print(f"{title:<9} {count:,} x {reason}")
    for example in facts["examples"]:
        print(f"  {example}")
