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

from lifelong.text.document import Document
from lifelong.tokens.tokenizer import BPETokenizer

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


def content_of(document: Document) -> Content:
    """Return what of a document is encoded."""
    return document.text if document.messages is None else document.messages


def encode(contents: Sequence[Content], tokenizer: BPETokenizer) -> Encoded:
    """Encode texts and conversations, in their order."""
    texts = iter(tokenizer.encode_batch([item for item in contents if isinstance(item, str)]))
    chats = iter(tokenizer.encode_chat_batch([item for item in contents if not isinstance(item, str)]))
    end = tokenizer.eos_id
    ids: list[list[int]] = []
    masks: list[npt.NDArray[np.uint8]] = []
    bytes_, trained_bytes = [], []
    for item in contents:
        if isinstance(item, str):
            tokens = next(texts)
            masks.append(np.ones(len(tokens) + 1, dtype=np.uint8))  # a text's end is worth learning
            bytes_.append(len(item.encode("utf-8")))
            trained_bytes.append(bytes_[-1])
        else:
            tokens, trained = next(chats)
            masks.append(np.array([*trained, False], dtype=np.uint8))  # a chat ends by its end of turn
            sizes = [(turn["role"], len(turn["content"].encode("utf-8"))) for turn in item]
            bytes_.append(sum(size for _, size in sizes) + len(sizes) - 1)
            trained_bytes.append(sum(size for role, size in sizes if role == "assistant"))
        tokens.append(end)
        ids.append(tokens)
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    flat = np.fromiter(chain.from_iterable(ids), dtype=id_type(tokenizer.vocab_size), count=int(lengths.sum()))
    mask = None if all(isinstance(item, str) for item in contents) else np.concatenate(masks)
    return Encoded(flat, mask, lengths, np.array(bytes_, dtype=np.int64), np.array(trained_bytes, dtype=np.int64))


def encode_chunks(
    chunks: Iterable[tuple[str, list[Content]]], tokenizer: BPETokenizer, *, workers: int = 1
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
    chunks: Iterable[tuple[str, list[Content]]], tokenizer: BPETokenizer, workers: int
) -> Iterator[tuple[str, Encoded]]:
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor

    # Spawned, not forked: the tokenizer's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="lifelong-") as folder:
        place = Path(folder) / "tokenizer"
        tokenizer.save(place)
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(str(place), type(tokenizer))
        )
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
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# The tokenizer of a worker process, loaded once.
_worker_tokenizer: BPETokenizer | None = None


def _start_worker(place: str, kind: type[BPETokenizer]) -> None:
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
    _worker_tokenizer = kind.load(place)


def _work(contents: list[Content]) -> Encoded:
    assert _worker_tokenizer is not None
    return encode(contents, _worker_tokenizer)
