"""Documents to token ids in bulk: about 1 MB of text at a time, on one core or many, always in the order given."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer

CHUNK_BYTES = 1 << 20  # text encoded at once: enough to keep a core busy, little enough to forget
# Starting worker processes takes a second or two: less text than this is encoded here.
PARALLEL_FROM = 8 * CHUNK_BYTES
_AHEAD = 3  # chunks per worker under way

# The text of a document, or its messages: all that encoding needs, and little to send to another process.
Content = str | tuple[dict[str, str], ...]


@dataclass(slots=True)
class Encoded:
    """Documents as ids, each closed by the end-of-text.

    Attributes:
        ids: of all documents, one after another; uint16 or uint32.
        mask: which ids are trained on, uint8; None where all are.
        lengths: ids of each document, int64.
        bytes: UTF-8 bytes of each document, int64.
        trained_bytes: those of them that a loss is taken of, int64.
    """

    ids: npt.NDArray[Any]
    mask: npt.NDArray[np.uint8] | None
    lengths: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    trained_bytes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)


def id_type(vocab_size: int) -> str:
    """Return the narrowest type on disk that holds every id."""
    return "<u2" if vocab_size <= 65_536 else "<u4"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def content_of(document: Document) -> Content:
    """Return what of a document is encoded."""
    return document.text if document.messages is None else document.messages


def encode(contents: Sequence[Content], tokenizer: Tokenizer) -> Encoded:
    """Encode texts and conversations, in their order; the ids and masks are those of `encode` and `encode_chat`."""
    # Everything is pieces: a text, or a message. All are encoded at once, and put between their special tokens.
    pieces: list[str] = []
    opening: list[list[int]] = []  # the tokens before a piece
    trained: list[bool] = []
    counts: list[int] = []  # pieces of each document
    for item in contents:
        if isinstance(item, str):
            pieces.append(item)
            opening.append([])
            trained.append(True)
            counts.append(1)
        else:
            pieces += [turn["content"] for turn in item]
            opening += [tokenizer.opening_ids(turn["role"]) for turn in item]
            trained += [turn["role"] == "assistant" for turn in item]
            counts.append(len(item))
    flat, lengths = tokenizer.encode_flat(pieces)
    closing = tokenizer.closing_ids
    before = np.array([len(tokens) for tokens in opening], dtype=np.int64)
    chats = before > 0
    after = chats * len(closing)
    last = np.zeros(len(pieces), dtype=np.int64)
    first = np.cumsum([0, *counts[:-1]], dtype=np.int64)
    last[np.cumsum(counts) - 1] = 1
    # After a message its end of turn, after a document's last piece the end-of-text.
    sizes = before + lengths + after + last
    ends = np.cumsum(sizes)
    begins = ends - sizes
    ids = np.empty(int(sizes.sum()), dtype=id_type(tokenizer.vocab_size))
    shift = begins + before - (np.cumsum(lengths) - lengths)
    ids[np.arange(len(flat)) + np.repeat(shift, lengths)] = flat
    opened = np.arange(int(before.sum())) + np.repeat(begins - (np.cumsum(before) - before), before)
    ids[opened] = [token for tokens in opening for token in tokens]
    closed = (ends - last - after)[chats]
    for place, token in enumerate(closing):
        ids[closed + place] = token
    ids[ends[last == 1] - 1] = tokenizer.eos_id
    mask = None
    if chats.any():
        mask = np.repeat(np.array(trained, dtype=np.uint8), sizes)
        mask[opened] = 0
        for place in range(1, len(closing)):  # of what closes a turn, the first token is worth learning
            mask[closed + place] = 0
        mask[(ends - 1)[chats & (last == 1)]] = 0  # a text's end is worth learning; a chat ends by its end of turn
    size = np.array([len(piece.encode("utf-8")) for piece in pieces], dtype=np.int64)
    total = np.add.reduceat(size, first) + np.array(counts) - 1  # messages are joined by line ends, as in `Document`
    return Encoded(ids, mask, np.add.reduceat(sizes, first), total, np.add.reduceat(size * np.array(trained), first))


def encode_chunks(
    chunks: Iterable[tuple[str, list[Content]]], tokenizer: Tokenizer, *, workers: int = 1
) -> Iterator[tuple[str, Encoded]]:
    """Encode labelled chunks, and yield them in their order, whatever the number of workers.

    Args:
        chunks: a label and documents' contents, about `CHUNK_BYTES` of text each.
        tokenizer: a trained tokenizer.
        workers: processes; with more than one they are started once there is enough text to be worth it. A script that
            asks for more than one needs the usual ``if __name__ == "__main__":``.
    """
    source = iter(chunks)
    first: list[tuple[str, list[Content]]] = []
    if workers > 1:
        size = 0
        for chunk in source:
            first.append(chunk)
            size += sum(size_of(item) for item in chunk[1])
            if size >= PARALLEL_FROM:
                yield from _in_parallel(chain(first, source), tokenizer, workers)
                return
    for label, contents in chain(first, source):
        yield label, encode(contents, tokenizer)


def size_of(item: Content) -> int:
    """Return the characters of a document."""
    return len(item) if isinstance(item, str) else sum(len(turn["content"]) for turn in item)


def _in_parallel(
    chunks: Iterable[tuple[str, list[Content]]], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[str, Encoded]]:
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Spawned, not forked: the tokenizer's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="lifelong-") as folder:
        place = Path(folder) / "tokenizer"
        tokenizer.save(place)
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(str(place),))
        under_way: deque[tuple[str, Future[Encoded]]] = deque()
        try:
            for label, contents in chunks:
                under_way.append((label, pool.submit(_work, contents)))
                if len(under_way) >= _AHEAD * workers:
                    done, future = under_way.popleft()
                    yield done, future.result()
            while under_way:
                done, future = under_way.popleft()
                yield done, future.result()
        except BrokenProcessPool:
            raise LifelongError(
                "a process that encodes text was ended from outside, or could not start",
                fix="Pass fewer workers, or one. A script that asks for more needs a guard around its main part.",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# The tokenizer of a worker process, loaded once.
_worker_tokenizer: Tokenizer | None = None


def _start_worker(place: str) -> None:
    import multiprocessing
    import signal
    import threading

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:  # a worker whose parent was killed would wait for work for ever
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    global _worker_tokenizer
    _worker_tokenizer = load_tokenizer(place)


def _work(contents: list[Content]) -> Encoded:
    assert _worker_tokenizer is not None
    return encode(contents, _worker_tokenizer)
