"""Encoded documents onto disk, shard by shard."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lifelong.files import disk_error, read_json, sweep_temporaries, write_json
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.encoding import Encoded, id_type
from lifelong.tokens.shards import FORMAT, CacheFacts, Fingerprint, ShardFacts


class ShardWriter:
    """Puts encoded documents into shards, each written under a temporary name and renamed when it is whole.

    Finished shards that lie in ``folder`` are kept, and writing goes on after them; anything half written is removed.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, shard_bytes: int) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.dtype = id_type(tokenizer.vocab_size)
        self.capacity = max(1, shard_bytes // np.dtype(self.dtype).itemsize)
        sweep_temporaries(folder)
        self.shards = [ShardFacts(**read_json(path)) for path in sorted(folder.glob("shard_*.json"))]
        names = {f"shard_{number:05d}" for number in range(len(self.shards))}
        for path in folder.glob("shard_*"):
            if path.name.partition(".")[0] not in names:
                path.unlink()
        self.kept = sum(shard.documents for shard in self.shards)  # documents that an earlier build had finished
        self._open: _OpenShard | None = None

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return sum(shard.tokens for shard in self.shards) + (self._open.tokens if self._open else 0)

    def add(self, encoded: Encoded, budget: int | None = None) -> int:
        """Write documents up to and with the one that reaches ``budget`` tokens in all; return how many."""
        ends = np.cumsum(encoded.lengths)
        count = len(encoded)
        if budget is not None:
            left = budget - self.tokens
            count = min(count, int(np.searchsorted(ends, left)) + 1) if left > 0 else 0
        first = 0
        while first < count:
            shard = self._shard()
            begin = int(ends[first - 1]) if first else 0
            fits = int(np.searchsorted(ends[:count], begin + self.capacity - shard.tokens, side="right"))
            if fits <= first and shard.starts:
                self._close()
                continue
            stop = max(fits, first + 1)
            shard.write(encoded, first, stop, begin, int(ends[stop - 1]))
            first = stop
        return count

    def finish(self, fingerprint: Fingerprint) -> CacheFacts:
        """Close the last shard and write ``meta.json``."""
        if self._open is not None:
            self._close()
        facts = CacheFacts(
            format=FORMAT,
            dtype=self.dtype,
            vocab_size=self.tokenizer.vocab_size,
            fingerprint=fingerprint,
            shards=self.shards,
            **{
                name: sum(getattr(shard, name) for shard in self.shards)
                for name in ("tokens", "bytes", "documents", "trained_tokens", "trained_bytes")
            },
        )
        write_json(self.folder / "meta.json", asdict(facts))
        return facts

    def _shard(self) -> _OpenShard:
        if self._open is None:
            try:
                self._open = _OpenShard(self.folder / f"shard_{len(self.shards):05d}", self.dtype)
                if not self.shards:
                    self._open.begin_with(self.tokenizer.eos_id)
            except OSError as error:
                raise disk_error(error, self.folder) from error
        return self._open

    def _close(self) -> None:
        assert self._open is not None
        self.shards.append(self._open.close())
        self._open = None


class _OpenShard:
    """The shard being written."""

    def __init__(self, stem: Path, dtype: str) -> None:
        self.stem, self.dtype = stem, dtype
        self.tokens = self.bytes = self.trained_bytes = self.untrained = 0
        self.starts: list[npt.NDArray[np.int64]] = []
        self._files: dict[str, tuple[BinaryIO, Any]] = {}
        self._stack = ExitStack()

    def begin_with(self, token: int) -> None:
        """Write the end-of-text that precedes all documents; nothing is learned from it."""
        self._append("bin", np.array([token], dtype=self.dtype))
        self.tokens = self.untrained = 1

    def write(self, encoded: Encoded, first: int, stop: int, begin: int, end: int) -> None:
        """Append documents ``first`` to ``stop`` (excluded), which are the ids ``begin`` to ``end`` (excluded)."""
        lengths = encoded.lengths[first:stop]
        self.starts.append(self.tokens + np.cumsum(lengths) - lengths)
        self._append("bin", encoded.ids[begin:end])
        if encoded.mask is not None and "mask.bin" not in self._files:  # the first chats of this shard
            before = np.ones(self.tokens, dtype=np.uint8)
            before[: self.untrained] = 0
            self._append("mask.bin", before)
        if "mask.bin" in self._files:
            mask = np.ones(end - begin, np.uint8) if encoded.mask is None else encoded.mask[begin:end]
            self._append("mask.bin", mask)
            self.untrained += end - begin - int(mask.sum(dtype=np.int64))
        self.tokens += end - begin
        self.bytes += int(encoded.bytes[first:stop].sum())
        self.trained_bytes += int(encoded.trained_bytes[first:stop].sum())

    def _append(self, suffix: str, values: npt.NDArray[Any]) -> None:
        try:
            if suffix not in self._files:
                opened = self._stack.enter_context(self._path(suffix, ".tmp").open("wb"))
                self._files[suffix] = opened, hashlib.sha256()
            handle, digest = self._files[suffix]
            data = np.ascontiguousarray(values).data
            handle.write(data)
            digest.update(data)
        except OSError as error:
            raise disk_error(error, self.stem) from error

    def close(self) -> ShardFacts:
        """Make the files durable, give them their names, and write the facts beside them last."""
        starts = np.concatenate(self.starts) if self.starts else np.empty(0, dtype=np.int64)
        self._append("idx", starts.astype("<i8"))
        try:
            for handle, _ in self._files.values():
                handle.flush()
                os.fsync(handle.fileno())
            self._stack.close()
            for suffix in self._files:
                self._path(suffix, ".tmp").rename(self._path(suffix))
        except OSError as error:
            raise disk_error(error, self.stem) from error
        facts = ShardFacts(
            tokens=self.tokens,
            documents=len(starts),
            bytes=self.bytes,
            trained_tokens=self.tokens - self.untrained,
            trained_bytes=self.trained_bytes,
            sha256={suffix: digest.hexdigest() for suffix, (_, digest) in self._files.items()},
        )
        write_json(self._path("json"), asdict(facts))
        return facts

    def _path(self, suffix: str, more: str = "") -> Path:
        return self.stem.with_name(f"{self.stem.name}.{suffix}{more}")
