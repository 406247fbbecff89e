"""Token caches: folders of memory-mapped shards, written once, read anywhere. Writing them is `building`'s.

A cache is one long sequence of token ids: an end-of-text, then every document followed by an end-of-text. So each
token has a predecessor, also the first of the first document. A shard is a part of it that holds whole documents:

    shard_00000.bin       ids, uint16 or uint32 by the size of the vocabulary; that end-of-text begins the first shard
    shard_00000.idx       where each document starts within the shard, int64
    shard_00000.mask.bin  of shards with chats: a byte a token, 1 where the token is trained on
    meta.json             the facts below
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.files import directory_kind, read_json

if TYPE_CHECKING:
    from lifelong.tokens.base import Tokenizer

KIND = "cache"
FORMAT = 2
SHARD_BYTES = 134_217_728
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShardFacts:
    """One shard: ``bytes`` are UTF-8 bytes of text, ``sha256`` are of its files by suffix (``bin``, ``idx``, …)."""

    tokens: int
    documents: int
    bytes: int
    trained_tokens: int
    trained_bytes: int
    sha256: dict[str, str]

    @property
    def has_mask(self) -> bool:
        """Whether a mask lies beside the ids."""
        return "mask.bin" in self.sha256


@dataclass(frozen=True)
class Fingerprint:
    """What a cache was made from and how: hashes of the tokenizer and of the sources, and the settings."""

    tokenizer: str
    source: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class CacheFacts:
    """What ``meta.json`` holds. Bytes are UTF-8 bytes; trained are the tokens that a loss is taken of."""

    format: int
    dtype: str
    tokens: int
    bytes: int
    documents: int
    trained_tokens: int
    trained_bytes: int
    vocab_size: int
    fingerprint: Fingerprint
    shards: list[ShardFacts]

    @classmethod
    def read(cls, path: Path) -> CacheFacts:
        """Read a ``meta.json``; raises LifelongError where it is of another format or lacks something."""
        meta = read_json(path)
        fix = "Build the cache again."
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise LifelongError(f"the cache is not of format {FORMAT}", where=str(path), fix=fix)
        try:
            values = {item.name: meta[item.name] for item in fields(cls)}
            values["fingerprint"] = Fingerprint(**meta["fingerprint"])
            values["shards"] = [ShardFacts(**shard) for shard in meta["shards"]]
        except (KeyError, TypeError) as error:
            raise LifelongError(f"meta.json lacks {error}", where=str(path), fix=fix) from None
        return cls(**values)


class TokenCache:
    """A cache on disk. Ranges are token positions; a read may cross shards and documents."""

    def __init__(self, path: Path, facts: CacheFacts) -> None:
        self.path, self.facts = path, facts
        # Where each shard begins, and where the last one ends.
        self.borders = np.cumsum([0, *(shard.tokens for shard in facts.shards)], dtype=np.int64)
        self._borders: list[int] = self.borders.tolist()
        self.has_mask = any(shard.has_mask for shard in facts.shards)

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
    def fingerprint(self) -> str:
        """The fingerprint of the tokenizer that made the ids."""
        return self.facts.fingerprint.tokenizer

    @property
    def bytes_per_trained_token(self) -> float:
        """UTF-8 bytes a trained token stands for: loss / ln 2 / this = bits per byte."""
        return self.facts.trained_bytes / self.facts.trained_tokens if self.facts.trained_tokens else 0.0

    @cached_property
    def starts(self) -> Ids:
        """Where each document starts, and where the last one ends: (documents + 1,), int64."""
        parts = [
            np.fromfile(self.shard_path(number, "idx"), dtype="<i8").astype(np.int64) + self.borders[number]
            for number in range(len(self.facts.shards))
        ]
        return np.concatenate([*parts, self.borders[-1:]])

    @cached_property
    def shards(self) -> list[npt.NDArray[np.unsignedinteger]]:
        """The ids of every shard, memory-mapped."""
        count = len(self.facts.shards)
        return [np.memmap(self.shard_path(number, "bin"), dtype=self.facts.dtype, mode="r") for number in range(count)]

    @cached_property
    def masks(self) -> list[npt.NDArray[np.uint8] | None]:
        """The mask of every shard, memory-mapped; None where all of a shard is trained on."""
        return [
            np.memmap(self.shard_path(number, "mask.bin"), dtype="u1", mode="r") if shard.has_mask else None
            for number, shard in enumerate(self.facts.shards)
        ]

    def shard_path(self, number: int, suffix: str) -> Path:
        """Return where a file of a shard lies."""
        return self.path / f"shard_{number:05d}.{suffix}"

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy the ids from position ``start`` on into ``out``, as many as it has room for."""
        self._copy(self.shards, start, out)

    def read_mask_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Set ``out`` to whether the positions from ``start`` on are trained on; all, where there is no mask."""
        out.fill(True)
        if self.has_mask:
            self._copy(self.masks, start, out)

    def read(self, start: int, stop: int) -> Ids:
        """Return the ids of positions ``start`` to ``stop`` (excluded), as int64."""
        out = np.empty(stop - start, dtype=np.int64)
        self.read_into(start, out)
        return out

    def read_mask(self, start: int, stop: int) -> Mask:
        """Return which of the positions are trained on; all, where the cache has no mask."""
        out = np.empty(stop - start, dtype=np.bool_)
        self.read_mask_into(start, out)
        return out

    def _copy(self, files: Sequence[npt.NDArray[Any] | None], start: int, out: npt.NDArray[Any]) -> None:
        stop = start + len(out)
        assert 0 <= start <= stop <= self.facts.tokens, (start, stop, self.facts.tokens)
        number = bisect_right(self._borders, start) - 1
        done = 0
        while start + done < stop:
            low, high = self._borders[number], self._borders[number + 1]
            upto = min(stop, high) - start
            if (file := files[number]) is not None:
                out[done:upto] = file[start + done - low : start + upto - low]
            done, number = upto, number + 1

    def document(self, index: int) -> tuple[Ids, Mask]:
        """Return the ids of a document without its end-of-text, and which of them are trained on."""
        start, stop = int(self.starts[index]), int(self.starts[index + 1]) - 1
        return self.read(start, stop), self.read_mask(start, stop)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts of ``meta.json``."""
        return asdict(self.facts)

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
        widths = {"bin": np.dtype(self.facts.dtype).itemsize, "mask.bin": 1}
        for number, shard in enumerate(self.facts.shards):
            for suffix in shard.sha256:
                size = 8 * shard.documents if suffix == "idx" else widths[suffix] * shard.tokens
                path = self.shard_path(number, suffix)
                found = path.stat().st_size if path.is_file() else None
                if found != size:
                    problem = "the file is missing" if found is None else f"the file has {found} bytes, expected {size}"
                    raise LifelongError(problem, where=str(path), fix="Build the cache again.")


def is_cache(path: str | Path) -> bool:
    """Whether ``path`` is a token cache."""
    return directory_kind(Path(path)) == KIND


def open_cache(path: str | Path, tokenizer: Tokenizer | None = None) -> TokenCache:
    """Open a cache; ids are read from disk only when they are asked for.

    Checks that all files are there in full. (Their hashes are in the manifest, but reading gigabytes at every start
    would cost more than it protects.)

    Raises:
        LifelongError: it is not a cache, a file is missing or cut short, or ``tokenizer`` is not the one that made it.
    """
    path = Path(path)
    if not is_cache(path):
        raise LifelongError("not a token cache", where=str(path), fix="Build one with `lifelong cache build`.")
    cache = TokenCache(path, CacheFacts.read(path / "meta.json"))
    cache.check_files()
    if tokenizer is not None:
        cache.check_tokenizer(tokenizer)
    return cache
