"""Which documents share a row: none is thrown away, and where lengths allow it a row begins with a document."""

from __future__ import annotations

from collections import deque

import numpy as np

from lifelong.tokens.shards import Ids

# Documents looked at at once: the choice is wide enough, and what stood together stays about together.
POOL = 1024


def best_fit(lengths: Ids, size: int) -> Ids:
    """Return for each item the row it goes to: in their order, each into the fullest row of ``size`` that has room."""
    rows = np.empty(len(lengths), dtype=np.int64)
    rooms = _Lengths()
    count = 0
    for item, length in enumerate(lengths.tolist()):
        room = rooms.shortest(length)
        if room is None:
            room, row, count = size, count, count + 1
        else:
            row = rooms.take(room)
        rows[item] = row
        if room > length:
            rooms.put(room - length, row)
    return rows


def aligned_order(lengths: Ids, size: int, pool: int = POOL) -> Ids:
    """Return an order of documents in which, laid end to end, rows of ``size`` begin with a document where they can.

    Rows are filled one after another from the next ``pool`` documents: with the longest that fits, or one that ends
    exactly with a row; where none fits, a document is cut (one longer than a row, if there is one) and goes on in the
    next row. Nothing is padded and nothing is lost: against the documents' own order it costs nothing but the order.
    (Best fit as in Ding et al. 2024, "Fewer truncations improve language modeling", arXiv:2404.10830, but cutting
    instead of padding.)

    Args:
        lengths: tokens of each document.
        size: tokens of a row.
        pool: documents to choose from.
    """
    order: list[int] = []
    coming = iter(enumerate(lengths.tolist()))
    short = _Lengths()  # by length, those that fit a row
    long = _Lengths()  # by what they leave in their last row, the others
    room = size
    while True:
        while len(short) + len(long) < pool and (found := next(coming, None)):
            index, length = found
            if length <= size:
                short.put(length, index)
            else:
                long.put(length % size, index)
        if not len(short) + len(long):
            return np.array(order, dtype=np.int64)
        fits = short.longest(room)
        if fits != room and long.has(room % size):  # ends exactly with a row
            index = long.take(room % size)
        elif fits is not None:
            index = short.take(fits)
        else:
            source = long if len(long) else short
            rest = source.longest(size)
            assert rest is not None
            index = source.take(rest)
        order.append(index)
        room = size - (int(lengths[index]) - room) % size


class _Lengths:
    """Items by a number up to the size of a row; finds the next number at once."""

    def __init__(self) -> None:
        self._items: dict[int, deque[int]] = {}
        self._bits = 0  # bit n is set where there is an item of number n
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, number: int, item: int) -> None:
        self._items.setdefault(number, deque()).append(item)
        self._bits |= 1 << number
        self._count += 1

    def take(self, number: int) -> int:
        item = self._items[number].popleft()
        if not self._items[number]:
            self._bits ^= 1 << number
        self._count -= 1
        return item

    def has(self, number: int) -> bool:
        return bool(self._bits >> number & 1)

    def longest(self, limit: int) -> int | None:
        fitting = self._bits & ((1 << (limit + 1)) - 1)
        return fitting.bit_length() - 1 if fitting else None

    def shortest(self, least: int) -> int | None:
        fitting = self._bits >> least
        return least + (fitting & -fitting).bit_length() - 1 if fitting else None
