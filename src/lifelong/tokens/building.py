"""Writing token caches shard by shard, so that a build that was killed goes on after its last whole shard."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.files import (
    atomic_directory,
    claim_output,
    fsync_directory,
    read_json,
    write_json,
    write_manifest,
)
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.encoding import CHUNK_BYTES, Content, content_of, encode_chunks, size_of
from lifelong.tokens.shards import (
    KIND,
    SHARD_BYTES,
    CacheFacts,
    Fingerprint,
    TokenCache,
    is_cache,
    open_cache,
)
from lifelong.tokens.writing import ShardWriter

_BUILD = "build.json"
_DIFFERS = {
    "tokenizer": "it was made with another tokenizer",
    "source": "its sources have changed since",
    "settings": "it was made with other settings",
}


def build_cache(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 1,
) -> TokenCache:
    """Encode documents into a cache on disk, in bounded memory; all of it or nothing.

    Args:
        documents: texts and conversations, read once and in order.
        tokenizer: a trained tokenizer.
        out: the folder to write; a cache that lies there is replaced.
        shard_bytes: the most that one shard's ids take on disk, unless one document is longer.
        workers: processes that encode (see `encode_chunks`); the result does not depend on it.

    Raises:
        LifelongError: there are no documents, ``out`` holds something else, or the disk refuses.
    """
    out = Path(out)
    claim_output(out, KIND)
    with atomic_directory(out, KIND, tokenizer=tokenizer.fingerprint) as folder:
        writer = ShardWriter(folder, tokenizer, shard_bytes)
        for _, encoded in encode_chunks(_chunks(documents), tokenizer, workers=workers):
            writer.add(encoded)
        facts = writer.finish(Fingerprint(tokenizer.fingerprint, "", {"shard_bytes": shard_bytes}))
        if not facts.documents:
            raise LifelongError("there are no documents to encode", where=str(out), fix="Give more text.")
    return TokenCache(out, facts)


def build_caches(
    documents: Sequence[Document], tokenizer: Tokenizer, out: Path, sequence_length: int
) -> list[TokenCache]:
    """Encode texts and conversations apart, for their rows are cut differently; those already encoded are used again.

    Texts that are together too short for a row stay with the conversations, which are packed whole.

    Args:
        documents: texts, conversations, or both.
        tokenizer: a trained tokenizer.
        out: the folder of the first cache; that of conversations beside texts has ``-chats`` after its name.
        sequence_length: tokens of a row.

    Raises:
        LifelongError: see `build_cache`.
    """

    def cache(mine: Sequence[Document], place: Path) -> TokenCache:
        return open_cache(place, tokenizer) if place.exists() else build_cache(mine, tokenizer, place)

    chats = [document for document in documents if document.messages]
    texts = [document for document in documents if not document.messages]
    apart = out.with_name(f"{out.name}-chats")
    if texts and chats:
        running = cache(texts, out)
        if running.tokens > sequence_length:
            return [running, cache(chats, apart)]
        shutil.rmtree(out)
        return [cache(documents, apart)]
    return [cache(documents, out)]


def _chunks(documents: Iterable[Document]) -> Iterator[tuple[str, list[Content]]]:
    chunk: list[Content] = []
    size = 0
    for document in documents:
        chunk.append(content_of(document))
        size += size_of(chunk[-1])
        if size >= CHUNK_BYTES:
            yield "", chunk
            chunk, size = [], 0
    if chunk:
        yield "", chunk


class CacheBuild:
    """One cache under construction, beside its place; goes on with what an earlier, killed build has finished.

    Args:
        out: where the cache will lie.
        tokenizer: a trained tokenizer.
        fingerprint: what it is made from and how.
        shard_bytes: the most that one shard's ids take on disk, unless one document is longer.
        fresh: throw away what lies there, finished or not.

    Attributes:
        complete: the cache is there already, with the same fingerprint.

    Raises:
        LifelongError: what lies there has another fingerprint, says which part differs; or it is no cache.
    """

    def __init__(
        self, out: Path, tokenizer: Tokenizer, fingerprint: Fingerprint, *, shard_bytes: int, fresh: bool = False
    ) -> None:
        self.out, self.tokenizer, self.fingerprint = out, tokenizer, fingerprint
        self.partial = out.with_name(f".{out.name}.partial")
        self.shard_bytes = shard_bytes
        self._writer: ShardWriter | None = None
        claim_output(out, KIND)
        if fresh:
            for path in (out, self.partial):
                shutil.rmtree(path, ignore_errors=True)
        self.complete = is_cache(out)
        if self.complete:
            _check_fresh(CacheFacts.read(out / "meta.json").fingerprint, fingerprint, out)
        if self.started:
            _check_fresh(Fingerprint(**read_json(self.partial / _BUILD)), fingerprint, out)

    @property
    def started(self) -> bool:
        """Whether an earlier build was cut off here."""
        return (self.partial / _BUILD).is_file()

    @property
    def writer(self) -> ShardWriter:
        """Where documents go; asking for it begins the build."""
        if self._writer is None:
            if not self.started:
                shutil.rmtree(self.partial, ignore_errors=True)
                write_json(self.partial / _BUILD, asdict(self.fingerprint))
            self._writer = ShardWriter(self.partial, self.tokenizer, self.shard_bytes)
        return self._writer

    @property
    def used(self) -> bool:
        """Whether there is something to commit."""
        return self._writer is not None or self.started

    @property
    def kept(self) -> int:
        """Documents that an earlier, cut off build has finished."""
        return self.writer.kept if self.started else 0

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return self.writer.tokens if self.used else 0

    def open(self) -> TokenCache:
        """Open the complete cache."""
        return open_cache(self.out, self.tokenizer)

    def commit(self) -> TokenCache:
        """Finish the last shard, write the facts, and put the cache into its place."""
        facts = self.writer.finish(self.fingerprint)
        (self.partial / _BUILD).unlink()
        write_manifest(self.partial, KIND, tokenizer=self.tokenizer.fingerprint)
        self.partial.rename(self.out)
        fsync_directory(self.out.parent)
        return TokenCache(self.out, facts)


def _check_fresh(found: Fingerprint, wanted: Fingerprint, where: Path) -> None:
    differing = [key for key in _DIFFERS if getattr(found, key) != getattr(wanted, key)]
    if not differing:
        return
    reasons = [_DIFFERS[key] for key in differing]
    if "settings" in differing:
        names = sorted({*found.settings, *wanted.settings})
        changes = [
            f"{name} was {found.settings.get(name)}, is {wanted.settings.get(name)}"
            for name in names
            if found.settings.get(name) != wanted.settings.get(name)
        ]
        reasons[-1] += f" ({'; '.join(changes)})"
    raise LifelongError(
        f"the cache is stale: {' and '.join(reasons)}",
        where=str(where),
        fix="Build it anew with --fresh, or keep it and choose another --name or --out.",
    )
