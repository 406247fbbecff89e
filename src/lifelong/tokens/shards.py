"""Token caches: folders of memory-mapped shards, written once, read anywhere.

A cache is one long sequence of token ids: an end-of-text, then every document followed by an end-of-text. So each
token has a predecessor, also the first of the first document. Of chats, a byte a token beside it says whether the token
is trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, claim_output, directory_kind, read_json, write_json
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer

KIND = "cache"
SHARD_TOKENS = 2**26
_BATCH_BYTES = 1 << 20  # text encoded at once: enough to keep all cores busy, little enough to forget
_OFFSETS = "documents.bin"
Ids = npt.NDArray[np.int64]
_Shard = TypeVar("_Shard")


@dataclass(frozen=True)
class CacheFacts:
    """What ``meta.json`` holds. Bytes are UTF-8 bytes; trained are the tokens that a loss is taken of."""

    dtype: str
    tokens: int
    bytes: int
    documents: int
    trained_tokens: int
    trained_bytes: int
    has_mask: bool
    shard_tokens: int
    vocab_size: int
    tokenizer: str


class TokenCache:
    """A cache on disk. Ranges are token positions; a read may cross shards and documents."""

    def __init__(self, path: Path, facts: CacheFacts) -> None:
        self.path, self.facts = path, facts

    def __len__(self) -> int:
        return self.facts.tokens

    @property
    def tokens(self) -> int:
        """Tokens in all, the end-of-text tokens included."""
        return self.facts.tokens

    @property
    def documents(self) -> int:
        """Documents in the cache."""
        return self.facts.documents

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the documents' text."""
        return self.facts.bytes

    @property
    def has_mask(self) -> bool:
        """Whether only some tokens are trained on (chats)."""
        return self.facts.has_mask

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the tokenizer that made the ids."""
        return self.facts.tokenizer

    @property
    def bytes_per_trained_token(self) -> float:
        """UTF-8 bytes a trained token stands for: loss / ln 2 / this = bits per byte."""
        return self.facts.trained_bytes / self.facts.trained_tokens if self.facts.trained_tokens else 0.0

    @cached_property
    def starts(self) -> Ids:
        """Where each document starts, and where the last one ends: (documents + 1,), int64."""
        return np.fromfile(self.path / _OFFSETS, dtype="<i8").astype(np.int64)

    @cached_property
    def _shards(self) -> list[npt.NDArray[np.unsignedinteger]]:
        return [np.memmap(path, dtype=self.facts.dtype, mode="r") for path in self._paths("bin")]

    @cached_property
    def _masks(self) -> list[npt.NDArray[np.uint8]]:
        return [np.memmap(path, dtype="u1", mode="r") for path in self._paths("mask.bin")]

    def _paths(self, suffix: str) -> list[Path]:
        count = -(-self.facts.tokens // self.facts.shard_tokens)
        return [self.path / f"shard_{number:05d}.{suffix}" for number in range(count)]

    def read(self, start: int, stop: int) -> Ids:
        """Return the ids of positions ``start`` to ``stop`` (excluded), as int64."""
        return np.concatenate([shard[a:b] for shard, a, b in self._cover(self._shards, start, stop)]).astype(np.int64)

    def read_mask(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Return which of the positions are trained on; all, where the cache has no mask."""
        if not self.has_mask:
            return np.ones(stop - start, dtype=np.bool_)
        return np.concatenate([mask[a:b] for mask, a, b in self._cover(self._masks, start, stop)]).astype(np.bool_)

    def _cover(self, shards: Sequence[_Shard], start: int, stop: int) -> Iterator[tuple[_Shard, int, int]]:
        assert 0 <= start < stop <= self.facts.tokens, (start, stop, self.facts.tokens)
        size = self.facts.shard_tokens
        for number in range(start // size, (stop - 1) // size + 1):
            yield shards[number], max(0, start - number * size), min(size, stop - number * size)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise LifelongError where the cache was made with another tokenizer."""
        if tokenizer.fingerprint != self.fingerprint:
            raise LifelongError(
                "the cache was made with another tokenizer",
                where=str(self.path),
                fix="Build the cache again with this tokenizer, or name the one that made it.",
            )

    def check_files(self) -> None:
        """Raise LifelongError where a file is missing or has not the size that ``meta.json`` implies."""
        facts = self.facts
        wanted = {self.path / _OFFSETS: 8 * (facts.documents + 1)}
        kinds = [("bin", np.dtype(facts.dtype).itemsize)] + ([("mask.bin", 1)] if facts.has_mask else [])
        for suffix, width in kinds:
            for number, path in enumerate(self._paths(suffix)):
                wanted[path] = width * min(facts.shard_tokens, facts.tokens - number * facts.shard_tokens)
        for path, size in wanted.items():
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                problem = "the file is missing" if found is None else f"the file has {found} bytes, expected {size}"
                raise LifelongError(problem, where=str(path), fix="Build the cache again.")


def build_cache(
    documents: Iterable[Document], tokenizer: Tokenizer, out: str | Path, *, shard_tokens: int = SHARD_TOKENS
) -> TokenCache:
    """Encode documents into a cache on disk, about 1 MB of text at a time.

    Raises:
        LifelongError: there are no documents, ``out`` holds something else, or the disk refuses.
    """
    out = Path(out)
    claim_output(out, KIND)
    with atomic_directory(out, KIND, tokenizer=tokenizer.fingerprint) as folder:
        writer = _Writer(folder, tokenizer, shard_tokens)
        for batch in _batches(documents):
            writer.add(batch)
        facts = writer.finish()
        if not facts.documents:
            raise LifelongError("there are no documents to encode", where=str(out), fix="Give more text.")
        write_json(folder / "meta.json", asdict(facts))
    return TokenCache(out, facts)


def open_cache(path: str | Path, tokenizer: Tokenizer | None = None) -> TokenCache:
    """Open a cache; ids are read from disk only when they are asked for.

    Checks that all files are there in full. (Their hashes are in the manifest, but reading gigabytes at every start
    would cost more than it protects.)

    Raises:
        LifelongError: it is not a cache, a file is missing or cut short, or ``tokenizer`` is not the one that made it.
    """
    path = Path(path)
    if directory_kind(path) != KIND:
        raise LifelongError("not a token cache", where=str(path), fix="Build one with `lifelong cache build`.")
    meta = read_json(path / "meta.json")
    try:
        facts = CacheFacts(**{item.name: meta[item.name] for item in fields(CacheFacts)})
    except (KeyError, TypeError) as error:
        raise LifelongError(f"meta.json lacks {error}", where=str(path), fix="Build the cache again.") from None
    cache = TokenCache(path, facts)
    cache.check_files()
    if tokenizer is not None:
        cache.check_tokenizer(tokenizer)
    return cache


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Writer:
    """Appends documents to the shard at hand and opens the next when it is full."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self.folder, self.tokenizer, self.shard_tokens = folder, tokenizer, shard_tokens
        self.dtype = "<u2" if tokenizer.vocab_size <= 65_535 else "<u4"
        self.tokens = self.bytes = self.trained_tokens = self.trained_bytes = 0
        self.has_mask = False
        self.starts = [1]
        self._append([tokenizer.eos_id], [False])

    def add(self, batch: Sequence[Document]) -> None:
        texts = iter(self.tokenizer.encode_batch([item.text for item in batch if item.messages is None]))
        chats = iter(self.tokenizer.encode_chat_batch([item.messages for item in batch if item.messages is not None]))
        ids: list[int] = []
        trained: list[bool] = []
        for document in batch:
            self.bytes += document.bytes
            if document.messages is None:
                tokens = next(texts)
                mask = [True] * (len(tokens) + 1)  # a text's end is worth learning; a chat ends by its end of turn
                self.trained_bytes += document.bytes
            else:
                tokens, mask = next(chats)
                mask = [*mask, False]
                self.has_mask = True
                answers = (m["content"] for m in document.messages if m["role"] == "assistant")
                self.trained_bytes += sum(len(answer.encode("utf-8")) for answer in answers)
            ids += [*tokens, self.tokenizer.eos_id]
            trained += mask
            self.starts.append(self.tokens + len(ids))
        self.trained_tokens += sum(trained)
        self._append(ids, trained)

    def _append(self, ids: list[int], trained: list[bool]) -> None:
        while ids:
            number, filled = divmod(self.tokens, self.shard_tokens)
            room = self.shard_tokens - filled
            for suffix, dtype, values in (("bin", self.dtype, ids), ("mask.bin", "u1", trained)):
                with self._file(number, suffix) as handle:
                    handle.write(np.asarray(values[:room], dtype=dtype).tobytes())
            self.tokens += len(ids[:room])
            ids, trained = ids[room:], trained[room:]

    def _file(self, number: int, suffix: str) -> BinaryIO:
        return (self.folder / f"shard_{number:05d}.{suffix}").open("ab")

    def finish(self) -> CacheFacts:
        np.asarray(self.starts, dtype="<i8").tofile(self.folder / _OFFSETS)
        if not self.has_mask:  # known only now: documents come as a stream
            for path in self.folder.glob("shard_*.mask.bin"):
                path.unlink()
        return CacheFacts(
            dtype=self.dtype,
            tokens=self.tokens,
            bytes=self.bytes,
            documents=len(self.starts) - 1,
            trained_tokens=self.trained_tokens,
            trained_bytes=self.trained_bytes,
            has_mask=self.has_mask,
            shard_tokens=self.shard_tokens,
            vocab_size=self.tokenizer.vocab_size,
            tokenizer=self.tokenizer.fingerprint,
        )
