"""From sources to caches: ``pretrain/NAME/{train,val,test}`` of texts, ``sft/NAME/{train,val,test}`` of chats."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import MANIFEST, sha256_bytes, sha256_file
from lifelong.locks import writer_lock
from lifelong.settings.cache import CacheSettings
from lifelong.text.document import HUB_PREFIX, DataSource, Document
from lifelong.text.prepared import is_prepared
from lifelong.text.readers import list_files
from lifelong.text.readers.hub import LOCAL_COPIES
from lifelong.text.stream import Source, as_sources, stream_splits
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.building import CacheBuild
from lifelong.tokens.decoding import tokenizer_place
from lifelong.tokens.encoding import CHUNK_BYTES, Content, content_of, cores, encode_chunks, size_of
from lifelong.tokens.shards import Fingerprint, TokenCache

GROUPS = ("pretrain", "sft")
# The gate is `val` on disk, as other tools and the guides call it.
FOLDERS = {"train": "train", "gate": "val", "test": "test"}


def build_named(
    sources: Sequence[Source] | Source, tokenizer: Tokenizer, out: Path, settings: CacheSettings, *, fresh: bool = False
) -> dict[str, Any]:
    """Build the caches of one name, all splits in one pass; what an earlier build finished is kept.

    Sources are read, cleaned and split as everywhere (`stream_splits`); a prepared directory keeps its splits. Reading
    stops when the token budgets are full.

    Args:
        sources: files, folders, globs, prepared directories, data sets of the hub.
        tokenizer: a trained tokenizer; a copy is kept beside the caches.
        out: the folder of all caches.
        settings: name, budgets, splits.
        fresh: build anew what is there.

    Returns:
        The facts of every cache, what was left out, and the report of reading.

    Raises:
        LifelongError: the sources cannot be read, or a cache of that name was made otherwise.
    """
    began = time.perf_counter()
    given = as_sources(sources)
    name = settings.name or default_name(given)
    build = _NamedBuild(given, tokenizer, out, name, settings)
    with writer_lock(out):
        place = tokenizer_place(out, tokenizer.fingerprint)
        if not place.is_dir():
            tokenizer.save(place)
        report = build.run(fresh)
    return {"name": name, "out": str(out), **report, "seconds": round(time.perf_counter() - began, 2)}


def default_name(sources: Sequence[DataSource]) -> str:
    """Return the name of a lone source's file or folder; raises LifelongError where there are several."""
    if len(sources) > 1:
        raise LifelongError("several sources have no common name", fix="Name the cache with --name.")
    stem = Path(str(sources[0].path).removeprefix(HUB_PREFIX)).expanduser().resolve().stem
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in stem).strip(".-_") or "text"


def source_hash(sources: Sequence[DataSource]) -> str:
    """Return a hash of what sources hold (names, kinds and contents of files; the name of a hub data set), and how."""
    digest = hashlib.sha256()
    for source in sources:
        path = Path(source.path).expanduser()
        if is_prepared(path):
            lines = [f"prepared\0{sha256_file(path / MANIFEST)}"]
        elif str(source.path).startswith(HUB_PREFIX):
            lines = [str(source.path), *_local_copies(str(source.path).removeprefix(HUB_PREFIX))]
        else:
            lines = [f"{file.name}\0{file.kind}\0{sha256_file(file.path)}" for file in list_files(source).files]
        how = repr((source.kind, source.format, source.encoding, source.delimiter, source.max_bytes))
        digest.update(sha256_bytes("\n".join([how, *lines]).encode()).encode())
    return digest.hexdigest()


def _local_copies(name: str) -> list[str]:
    folder = Path(os.environ.get(LOCAL_COPIES) or os.devnull) / name.partition(":")[0]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}" for path in files]


class _NamedBuild:
    """One pass over the sources into the caches of one name."""

    def __init__(
        self, sources: list[DataSource], tokenizer: Tokenizer, out: Path, name: str, settings: CacheSettings
    ) -> None:
        self.sources, self.tokenizer, self.out, self.name, self.settings = sources, tokenizer, out, name, settings
        self.fractions = (
            1 - settings.gate_fraction - settings.test_fraction,
            settings.gate_fraction,
            settings.test_fraction,
        )
        self.text: dict[str, Any] = {}
        self.seen: Counter[str] = Counter()
        self.full: set[str] = set()
        self.left_out: Counter[str] = Counter()
        self.stopped = False
        self.builds: dict[str, CacheBuild] = {}

    def run(self, fresh: bool) -> dict[str, Any]:
        settings = self.settings
        kept = settings.model_dump(exclude={"name", "workers"})
        fingerprint = Fingerprint(self.tokenizer.fingerprint, source_hash(self.sources), kept)
        for group in GROUPS:
            for folder in FOLDERS.values():
                place = self.out / group / self.name / folder
                build = CacheBuild(place, self.tokenizer, fingerprint, shard_bytes=settings.shard_bytes, fresh=fresh)
                self.builds[f"{group}/{folder}"] = build
        if any(build.complete for build in self.builds.values()) and not any(b.started for b in self.builds.values()):
            caches = [_facts(build.open()) for build in self.builds.values() if build.complete]
            return {"up_to_date": True, "caches": caches}
        self.full = {label for label in self.builds if self._is_full(label)}
        resumed = sum(build.kept for build in self.builds.values())
        if resumed:
            progress.note(f"Going on with the caches of '{self.name}': {resumed:,} documents are done already.")
        with progress.task(f"Caching {self.name}", total=settings.train_tokens) as shown:
            workers = settings.workers or cores()
            for label, encoded in encode_chunks(self._chunks(), self.tokenizer, workers=workers):
                taken = self.builds[label].writer.add(encoded, self._budget(label))
                self.left_out[label] += len(encoded) - taken
                shown.update(advance=int(encoded.lengths[:taken].sum()))
                if self._is_full(label):
                    self.full.add(label)
        caches = [_facts(b.open() if b.complete else b.commit()) for b in self.builds.values() if b.complete or b.used]
        return {
            "up_to_date": False,
            "caches": caches,
            "stopped_early": self.stopped,
            "over_budget": {label: count for label, count in self.left_out.items() if count},
            "text": self.text,
        }

    def _budget(self, label: str) -> int | None:
        return self.settings.train_tokens if label.endswith("/train") else self.settings.val_tokens

    def _is_full(self, label: str) -> bool:
        budget = self._budget(label)
        return self.builds[label].complete or (budget is not None and self.builds[label].tokens >= budget)

    def _chunks(self) -> Iterator[tuple[str, list[Content]]]:
        pending: dict[str, list[Content]] = {}
        sizes: Counter[str] = Counter()
        for label, document in self._labelled():
            self.seen[label] += 1
            if self.seen[label] <= self.builds[label].kept:
                continue
            if label in self.full:
                self.left_out[label] += not self.builds[label].complete
                if self._nothing_wanted():
                    self.stopped = True
                    break
                continue
            content = content_of(document)
            pending.setdefault(label, []).append(content)
            sizes[label] += size_of(content)
            if sizes[label] >= min(CHUNK_BYTES, 4 * (self._budget(label) or CHUNK_BYTES)):
                yield label, pending.pop(label)
                del sizes[label]
        yield from pending.items()

    def _labelled(self) -> Iterable[tuple[str, Document]]:
        stream = stream_splits(
            self.sources,
            seed=self.settings.seed,
            fractions=self.fractions,
            min_chars=self.settings.min_chars,
            report=self.text,
        )
        for split, document in stream:
            yield f"{'sft' if document.messages else 'pretrain'}/{FOLDERS[split]}", document

    def _nothing_wanted(self) -> bool:
        groups = {label.partition("/")[0] for label in self.seen}
        shares = zip(FOLDERS.values(), self.fractions, strict=True)
        wanted = [folder for folder, share in shares if share > 0]
        return all(f"{group}/{folder}" in self.full for group in groups for folder in wanted)


def _facts(cache: TokenCache) -> dict[str, Any]:
    facts = cache.facts
    return {
        "path": str(cache.path),
        "tokens": facts.tokens,
        "documents": facts.documents,
        "bytes": facts.bytes,
        "trained_tokens": facts.trained_tokens,
        "shards": len(facts.shards),
    }
