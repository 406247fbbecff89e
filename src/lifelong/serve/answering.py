"""Between the requests and the thread that computes: pieces of texts come to those who wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lifelong.serve.errors import as_request_error
from lifelong.serve.jobs import Job, Piece
from lifelong.serve.worker import Worker

Pieces = AsyncGenerator[tuple[int, Piece], None]
Inbox = asyncio.Queue[tuple[int, Piece] | None]
Chunks = Callable[[int, Piece, bool], list[dict[str, Any]]]


class Postman:
    """Hands the worker's pieces, in the event loop, to whoever follows their text."""

    def __init__(self) -> None:
        self._inboxes: dict[Job, tuple[Inbox, int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin, in the event loop that is running."""
        self._loop = asyncio.get_running_loop()

    def deliver(self, pieces: list[tuple[Job, Piece]]) -> None:
        """Take pieces, in any thread."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody follows any more
            self._loop.call_soon_threadsafe(self._hand_out, pieces)

    def _hand_out(self, pieces: list[tuple[Job, Piece]]) -> None:
        for job, piece in pieces:
            if (place := self._inboxes.get(job)) is not None:
                inbox, number = place
                inbox.put_nowait((number, piece))

    async def follow(self, worker: Worker, jobs: list[Job], receive: Receive) -> Pieces:
        """Let texts be written, and yield what is new of them with their number among ``jobs``.

        Whatever comes while the client is not ready for it is one piece. When the client is gone, or this generator is
        closed, the texts are given up.

        Raises:
            Busy: too many texts wait.
        """
        inbox: Inbox = asyncio.Queue()
        self._inboxes.update({job: (inbox, number) for number, job in enumerate(jobs)})
        left = set(range(len(jobs)))
        gone: asyncio.Task[None] | None = None
        try:
            worker.submit(jobs)
            gone = asyncio.create_task(_report_gone(receive, inbox))
            while left:
                items = [await inbox.get()]
                while not inbox.empty():
                    items.append(inbox.get_nowait())
                new: dict[int, Piece] = {}
                for item in items:
                    if item is None:
                        return
                    number, piece = item
                    new[number] = new[number].joined(piece) if number in new else piece
                for number, piece in new.items():
                    if piece.last:
                        left.discard(number)
                    yield number, piece
        finally:
            if gone is not None:
                gone.cancel()
            if left:
                worker.give_up([jobs[number] for number in left])
            for job in jobs:
                del self._inboxes[job]


async def _report_gone(receive: Receive, inbox: Inbox) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    inbox.put_nowait(None)


class EventStream(Response):
    """A streamed answer: server-sent events, closed by ``[DONE]``.

    Args:
        follow: yields the pieces, given how to learn that the client is gone; see `Postman.follow`.
        chunks: returns the events of a piece, given the text's number, and whether it is its first.
        closing: returns the events at the end.
        failed: told of an error.
    """

    def __init__(
        self,
        follow: Callable[[Receive], Pieces],
        chunks: Chunks,
        closing: Callable[[], list[dict[str, Any]]],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__()
        self._follow, self._chunks, self._closing, self._failed = follow, chunks, closing, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. What fails before the first piece is an answer of its own; later it is an event."""
        started = False

        async def emit(events: list[dict[str, Any]], *, more: bool = True) -> None:
            data = b"".join(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events)
            end = b"" if more else b"data: [DONE]\n\n"
            await send({"type": "http.response.body", "body": data + end, "more_body": more})

        known: set[int] = set()
        try:
            async with contextlib.aclosing(self._follow(receive)) as pieces:
                async for number, piece in pieces:
                    if piece.error is not None:
                        raise piece.error
                    if not started:
                        started = True
                        await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
                    await emit(self._chunks(number, piece, number not in known))
                    known.add(number)
        except Exception as error:
            self._failed(error)
            shown = as_request_error(error)
            if not started:
                await shown.response(scope, receive, send)
                return
            await emit([dict(shown.body)], more=False)
            return
        if started:
            await emit(self._closing(), more=False)


_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
