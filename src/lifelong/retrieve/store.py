"""A store of passages that is searched by words, by vectors, or by both."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from lifelong.errors import LifelongError, suggest
from lifelong.files import claim_output, directory_kind
from lifelong.locks import writer_lock
from lifelong.retrieve.embedding import DIMENSION, Embedder, open_embedder
from lifelong.retrieve.passages import COLUMNS, Hit, Passage, read_passage, rows_of
from lifelong.retrieve.table import KIND, VECTOR, WORDS, Table, condition, open_library, quoted, reading

MODES = ("keyword", "vector", "hybrid")
FILTERS = ("source", "name", "kind")
QUERY_LIMIT = 10_000  # characters: what is longer is a text, not a question
_FUSED = 50  # hits of each kind that are fused
_RANK_OFFSET = 60  # k of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)
_BATCH = 4096  # rows


class SimpleDocumentStore:
    """Passages, their sources, and perhaps their vectors, in a folder.

    A new store lives in a temporary folder until `save` gives it a place. A store that was loaded changes when it is
    saved: until then others see it as it was, and nobody else writes there.

    Args:
        embedding_dim: numbers in a vector of hashed words, where no model makes the vectors.
        embedder: a directory with a model that makes vectors; see `lifelong.retrieve.embedding.open_embedder`.

    Raises:
        LifelongError: lancedb is not installed.
    """

    def __init__(self, embedding_dim: int = DIMENSION, embedder: str | Path | None = None) -> None:
        open_library()
        self.embedding_dim = embedding_dim
        self._wanted: str | Path | None = embedder
        self._embedder: Embedder | None = None
        self.facts: dict[str, Any] = {"embedder": None, "sources": {}}
        folder = Path(tempfile.mkdtemp(prefix="lifelong-store-"))
        self._table = Table(folder, durable=False)
        self._let_go: Callable[[], Any] = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @classmethod
    def load(cls, path: str | Path, embedder: str | Path | None = None) -> Self:
        """Open a store.

        Args:
            path: its folder.
            embedder: the directory of the model that made its vectors, where it has moved.

        Raises:
            LifelongError: there is no store, it is damaged, or it is a .pkl file, which is never read.
        """
        path = Path(path).expanduser()
        if path.is_file():
            raise LifelongError(
                "this is a file; a document store is a folder",
                where=str(path),
                fix="A pickled store (.pkl) is not read: such a file can run any program when it is opened. "
                "`lifelong index SOURCE --store DIR` makes a store of the texts themselves.",
            )
        if not path.is_dir():
            raise LifelongError("no such document store", where=str(path), fix="`lifelong index` makes one.")
        if directory_kind(path) != KIND:
            raise LifelongError("not a document store", where=str(path), fix="`lifelong index` makes one.")
        return cls.open(path, embedder=embedder)

    @classmethod
    def open(cls, path: Path, *, embedding_dim: int = DIMENSION, embedder: str | Path | None = None) -> Self:
        """Open the store in a folder, or a new one that `save` puts there."""
        store = cls(embedding_dim, embedder)
        claim_output(path, KIND)
        store._move(path)
        return store

    def _move(self, path: Path) -> None:
        self._let_go()
        self._table = Table(path, durable=True)
        self._let_go = weakref.finalize(self, self._table.close)
        if self._table.facts:
            self.facts = self._table.facts
            kept = self.facts["embedder"]
            self.embedding_dim = kept["dimension"] if kept else self.embedding_dim

    @property
    def path(self) -> Path | None:
        """The folder, where it has one to stay."""
        return self._table.folder if self._table.durable else None

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._table)

    def add_documents(self, documents: Iterable[str | Mapping[str, Any] | Passage], source: str | None = None) -> int:
        """Add chunks; returns how many.

        Args:
            documents: chunks of `DocumentProcessor`, texts, mappings with ``text`` (and ``source``), or passages.
            source: where they come from. What the store has of the same source is replaced; without one they are
                added to what is there.

        Raises:
            LifelongError: another process writes here, or something is no text.
        """
        passages = [Passage.of(item, source or "") for item in documents]
        if source:
            self.delete([source])
        self.append(passages)
        return len(passages)

    def append(self, passages: Iterable[Passage]) -> int:
        """Add passages to what is there; returns how many."""
        count = 0
        embedder = self._own_embedder() if self.facts["embedder"] else None
        batch: list[Passage] = []
        for passage in passages:
            batch.append(passage)
            count += 1
            if len(batch) == _BATCH:
                self._table.append(rows_of(batch, embedder))
                batch = []
        if batch:
            self._table.append(rows_of(batch, embedder))
        return count

    def delete(self, sources: Sequence[str]) -> int:
        """Remove all chunks of some sources; returns how many."""
        removed = 0
        for first in range(0, len(sources), 500):
            listed = ", ".join(map(quoted, sources[first : first + 500]))
            removed += self._table.delete(f"source IN ({listed})")
        return removed

    def compute_embeddings(self, embedder: str | Path | None = None) -> str:
        """Give every chunk a vector, also those that are added later; returns what made them, in words.

        Args:
            embedder: a directory with a model (see the class); without one, and none given to the class, words are
                hashed into ``embedding_dim`` numbers.
        """
        chosen = open_embedder(embedder or self._wanted, self.embedding_dim)
        known = self.facts["embedder"]
        if known and known["fingerprint"] == chosen.fingerprint:
            return str(chosen)  # every chunk has its vector already
        self.facts = {**self.facts, "embedder": chosen.facts}
        self._embedder, self.embedding_dim = chosen, chosen.dimension
        if len(self._table):
            passages = self._passages()
            self._table.clear()
            self.append(passages)
        return str(chosen)

    def spans(self) -> list[tuple[str, int, int]]:
        """Return the source, start and end of every chunk."""
        if not len(self._table):
            return []
        with reading(self._table.folder):
            table = self._table.lance.search().select(["source", "start", "end"]).limit(len(self)).to_arrow()
        columns = (table.column(name).to_pylist() for name in ("source", "start", "end"))
        return list(zip(*columns, strict=True))

    def _passages(self) -> list[Passage]:
        with reading(self._table.folder):
            table = self._table.lance.to_arrow()
        kept = table.select([name for name in table.column_names if name != VECTOR])
        return [read_passage(row) for row in kept.to_pylist()]

    def _own_embedder(self) -> Embedder:
        """Return what made the vectors of this store.

        Raises:
            LifelongError: there are none, it cannot be found, or it is another than the one that made them.
        """
        known = self.facts["embedder"]
        if known is None:
            raise LifelongError(
                "the store has no vectors",
                where=str(self.path or "store"),
                fix="Compute them (compute_embeddings(), or lifelong index SOURCE --store DIR --embedder MODEL, or "
                "--embedder hashed for hashed words), or search by keyword.",
            )
        if self._embedder is None:
            try:
                found = open_embedder(self._wanted or known["source"], known["dimension"])
            except LifelongError as error:
                raise LifelongError(
                    f"the model that made the vectors cannot be opened: {error.what}",
                    where=error.where or known["source"],
                    fix="Name its directory (--embedder DIR), or search by keyword.",
                ) from None
            if found.fingerprint != known["fingerprint"]:
                raise LifelongError(
                    f"the vectors of this store were made by another embedder ({known['source']}) than {found.source}",
                    where=str(self.path or "store"),
                    fix="Name the one that made them (--embedder), or compute them anew (lifelong index --embedder).",
                )
            self._embedder = found
        return self._embedder

    def search(
        self,
        query: str,
        top_k: int = 5,
        mode: str = "keyword",
        filters: Mapping[str, str | Sequence[str]] | None = None,
    ) -> list[Hit]:
        """Return the passages that fit a query best, the best first.

        Args:
            query: a question, or words.
            top_k: passages at most.
            mode: ``keyword`` (BM25), ``vector`` (cosine), or ``hybrid``: both, fused by reciprocal rank.
            filters: what ``source``, ``name`` or ``kind`` must be: a value, one of several, or a beginning and ``*``.

        Raises:
            LifelongError: the query holds no word or is too long, or the store has no vectors for the mode.
        """
        if mode not in MODES:
            raise LifelongError(f"unknown mode '{mode}'.{suggest(mode, MODES)}", fix=f"There are: {', '.join(MODES)}.")
        if top_k < 1:
            raise LifelongError(f"top_k {top_k}: at least one passage has to be asked for")
        check_query(query)
        where = condition(filters or {}, FILTERS)
        if self._table.follow():
            self.facts, self._embedder = self._table.facts, None
        embedder = None if mode == "keyword" else self._own_embedder()
        if not len(self._table):
            return []
        self._table.refresh()
        depth = top_k if mode != "hybrid" else max(_FUSED, top_k)
        rankings = []
        with reading(self._table.folder):
            if mode != "vector":
                rankings.append(self._by_words(query, depth, where))
            if embedder is not None:
                rankings.append(self._by_vector(embedder.encode([query])[0], depth, where))
        return rankings[0] if len(rankings) == 1 else _fuse(rankings)[:top_k]

    def _by_words(self, query: str, limit: int, where: str | None) -> list[Hit]:
        found = self._table.lance.search(query, query_type="fts", fts_columns=WORDS).limit(limit)
        if where:
            found = found.where(where, prefilter=True)
        rows = found.select([*COLUMNS, "_score"]).to_list()
        return [Hit(read_passage(row), float(row["_score"])) for row in rows]

    def _by_vector(self, vector: Any, limit: int, where: str | None) -> list[Hit]:
        found = self._table.lance.search(vector, vector_column_name=VECTOR).distance_type("dot").limit(limit)
        if where:
            found = found.where(where, prefilter=True)
        rows = found.select([*COLUMNS, "_distance"]).to_list()
        return [Hit(read_passage(row), 1 - float(row["_distance"])) for row in rows]  # lance: 1 - the product

    def save(self, path: str | Path | None = None) -> Path:
        """Make what was changed the state of the store, at once and durably; returns its folder.

        Args:
            path: where to put it, as a folder whatever its name; by default where it is.

        Raises:
            LifelongError: it has no place yet and none is given, or something else is there.
        """
        target = self.path if path is None else Path(path).expanduser()
        if target is None:
            raise LifelongError("the store has no place yet", fix="Give save() a path.")
        if self.path is not None and target.resolve() == self.path.resolve():
            self._table.commit(self.facts)
            return target
        claim_output(target, KIND)
        with writer_lock(target) if target.exists() else nullcontext():
            self._table.copy_to(target, self.facts)
        self._move(target)
        return target


def check_query(query: str) -> None:
    """Raise LifelongError where a query holds no word, or is too long to be one."""
    if len(query) > QUERY_LIMIT:
        raise LifelongError(
            f"the query has {len(query):,} characters; at most {QUERY_LIMIT:,} are searched for",
            fix="Ask for less at once: a sentence finds more than a page.",
        )
    if not re.search(r"\w", query):
        raise LifelongError("the query holds no word", fix="Ask with words: punctuation is not indexed.")


def _fuse(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Return hits by the sum of 1 / (60 + rank) over the rankings they are in (Cormack, Clarke, Büttcher 2009)."""
    scores: dict[Passage, float] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.passage] = scores.get(hit.passage, 0.0) + 1 / (_RANK_OFFSET + rank)
    return [Hit(passage, score) for passage, score in sorted(scores.items(), key=lambda item: -item[1])]
