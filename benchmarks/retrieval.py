"""Retrieval: how well it finds, by way of splitting and of searching; how fast it indexes and answers.

    python benchmarks/retrieval.py --xquad xquad.en.json --chunking DIR [--embedder DIR] [--json FILE]
    python benchmarks/retrieval.py --megabytes 10 --chunks 20000

``--xquad`` is SQuAD-shaped JSON, each paragraph a passage; ``--chunking`` holds the corpora and ``questions_df.csv`` of
Chroma's chunking_evaluation. Without them only the timings are taken.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from common import machine, print_table, write_json

from lifelong.retrieve.indexing import index_sources
from lifelong.retrieve.questions import Question, read_questions
from lifelong.retrieve.scoring import score
from lifelong.retrieve.store import MODES, SimpleDocumentStore


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xquad", type=Path, metavar="FILE")
    parser.add_argument("--chunking", type=Path, metavar="DIR")
    parser.add_argument("--embedder", action="append", default=[], metavar="DIR", help="beside hashed words")
    parser.add_argument("--lengths", type=int, nargs="+", default=[400, 1000], help="max_length of chunks")
    parser.add_argument("--methods", nargs="+", default=["paragraph", "sentence", "chunk", "semantic"])
    parser.add_argument("--megabytes", type=float, default=10, help="of Markdown to index; 0: leave it out")
    parser.add_argument("--chunks", type=int, default=20_000, help="in the store that is asked; 0: leave it out")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    if options.xquad:
        result["xquad"] = xquad(options.xquad, options.embedder)
    if options.chunking:
        result["chunking"] = chunking(options.chunking, options.embedder, options.lengths, options.methods)
    with tempfile.TemporaryDirectory() as folder:
        if options.megabytes:
            result["indexing"] = indexing(Path(folder), options.megabytes)
        if options.chunks:
            result["asking"] = asking(Path(folder), options.chunks, options.queries)
    write_json(options.json, result)


def _modes(store: SimpleDocumentStore, questions: list[Question], embedders: list[str]) -> dict[str, dict[str, float]]:
    """Return the measures by words, and by vectors and both for each embedder."""
    found = {"keyword": score(store, questions)}
    for embedder in ("hashed", *embedders):
        store.compute_embeddings(embedder)
        for mode in MODES[1:]:
            found[f"{mode}, {Path(embedder).name}"] = score(store, questions, mode=mode)
    return found


def xquad(file: Path, embedders: list[str]) -> dict[str, Any]:
    """Find the paragraph to which a question was asked."""
    store, questions = SimpleDocumentStore(), []
    articles = json.loads(file.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    store.add_documents({"text": item["context"], "source": str(number)} for number, item in enumerate(paragraphs))
    for number, item in enumerate(paragraphs):
        questions += [Question(qa["question"], str(file), grades={str(number): 1.0}) for qa in item["qas"]]
    found = _modes(store, questions, embedders)
    rows = [[name, *(f"{m[key]:.4f}" for key in ("ndcg", "recall", "mrr"))] for name, m in found.items()]
    title = f"{file.name}: {len(questions)} questions, {len(paragraphs)} paragraphs"
    print_table(title, ["search", "nDCG@10", "recall@10", "MRR@10"], rows)
    return found


def chunking(folder: Path, embedders: list[str], lengths: list[int], methods: list[str]) -> dict[str, Any]:
    """Find the spans that answer a question, by way of splitting."""
    questions = read_questions(folder / "questions_df.csv")
    corpora = sorted(folder.glob("*.md"))
    results: dict[str, Any] = {}
    rows = []
    for length in lengths:
        for method in methods:
            way = {"method": method, "min_length": 50, "max_length": length, "overlap": None, "pattern": None}
            with tempfile.TemporaryDirectory() as place:
                store = SimpleDocumentStore.open(Path(place) / "store")
                index_sources(store, corpora, way)
                found = _modes(store, questions, embedders)
                size = len(store)
            results[f"{method} {length}"] = {"chunks": size, **found}
            for name, m in found.items():
                measures = (f"{m[key]:.4f}" for key in ("ndcg", "recall", "mrr", "covered"))
                rows.append([f"{method} {length}, {name}", f"{size:,}", *measures])
    columns = ["splitting, search", "chunks", "nDCG@10", "recall@10", "MRR@10", "covered"]
    print_table(f"{folder.name}: {len(questions)} questions with spans, {len(corpora)} corpora", columns, rows)
    return results


def _words() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    return " ".join((library / name).read_text(encoding="utf-8") for name in ("argparse.py", "typing.py")).split()


def indexing(folder: Path, megabytes: float) -> dict[str, float]:
    """Index Markdown made of this Python's own documentation, in files of about 50 kB; then again, unchanged."""
    from pydoc_data.topics import topics

    text = "\n\n".join(f"# {name}\n\n{body}" for name, body in topics.items())
    size, source = 50_000, folder / "source"
    source.mkdir()
    for number in range(max(1, round(megabytes * 1e6 / size))):
        start = number * size % max(1, len(text) - size)
        (source / f"{number:04d}.md").write_text(text[start : start + size], encoding="utf-8")
    way = {"method": "semantic", "min_length": 50, "max_length": 1000, "overlap": None, "pattern": None}
    seconds = {}
    for name in ("new", "unchanged"):
        begun = time.perf_counter()
        index_sources(SimpleDocumentStore.open(folder / "indexed"), [source], way)
        seconds[name] = time.perf_counter() - begun
    (source / "0000.md").write_text("# Changed\n\n" + text[:size], encoding="utf-8")
    begun = time.perf_counter()
    index_sources(SimpleDocumentStore.open(folder / "indexed"), [source], way)
    seconds["one file changed"] = time.perf_counter() - begun
    print_table(
        f"Indexing {megabytes:g} MB of Markdown", ["", "seconds"], [[n, f"{s:.2f}"] for n, s in seconds.items()]
    )
    return seconds


def asking(folder: Path, chunks: int, queries: int) -> dict[str, Any]:
    """Ask a store of chunks of 100 words each; the median and the 95th percentile."""
    words, draw = _words(), random.Random(0)
    store = SimpleDocumentStore()
    store.add_documents(" ".join(draw.choices(words, k=100)) for _ in range(chunks))
    store.compute_embeddings("hashed")
    store.save(folder / "asked")
    opened = SimpleDocumentStore.load(folder / "asked")
    asked = [" ".join(draw.choices(words, k=8)) + " word" for _ in range(queries)]
    rows, found = [], {}
    for mode in MODES:
        opened.search(asked[0], 10, mode)
        spent = []
        for query in asked:
            begun = time.perf_counter()
            opened.search(query, 10, mode)
            spent.append(1000 * (time.perf_counter() - begun))
        found[mode] = {"p50": statistics.median(spent), "p95": sorted(spent)[int(len(spent) * 0.95)]}
        rows.append([mode, f"{found[mode]['p50']:.1f}", f"{found[mode]['p95']:.1f}"])
    size = sum(path.stat().st_size for path in (folder / "asked").rglob("*") if path.is_file())
    shutil.rmtree(folder / "asked")
    print_table(f"Asking {chunks:,} chunks ({size / 1e6:.0f} MB)", ["search", "p50 ms", "p95 ms"], rows)
    return found


if __name__ == "__main__":
    main()
