"""What answers for a model: every request of OpenAI's interface."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive

from lifelong.serve.answering import EventStream, Pieces, Postman
from lifelong.serve.asking import Asked, Asking
from lifelong.serve.embedding import embed
from lifelong.serve.errors import as_request_error
from lifelong.serve.exported import AnyViews
from lifelong.serve.guard import read_body
from lifelong.serve.jobs import Job, Piece, Token
from lifelong.serve.metrics import Metrics
from lifelong.serve.replies import Reply, usage, vectors
from lifelong.serve.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    WritingRequest,
    read_request,
)
from lifelong.serve.scoring import score
from lifelong.serve.sources import Sources
from lifelong.serve.views import Views
from lifelong.serve.worker import Worker
from lifelong.settings.serve import ServeSettings

_log = logging.getLogger("lifelong.serve")


class Service:
    """What answers for a model."""

    def __init__(self, views: AnyViews, settings: ServeSettings, sources: Sources | None) -> None:
        self._views, self._settings = views, settings
        self.postman, self.metrics = Postman(), Metrics()
        self.worker = Worker(
            views, queue=settings.queue, deliver=self.postman.deliver, interval=settings.stream_interval
        )
        self._asking = Asking(views, settings, sources)
        self._created = int(time.time())

    def open(self) -> None:
        """Begin to compute; in the event loop that answers."""
        self.postman.open()
        self.worker.start()

    def close(self) -> None:
        """End after the step in progress."""
        self.worker.close()

    async def models(self, request: Request) -> Response:
        """List the views."""
        one = {"object": "model", "created": self._created, "owned_by": "lifelong"}
        return JSONResponse({"object": "list", "data": [{"id": name, **one} for name in self._views.targets]})

    async def model(self, request: Request) -> Response:
        """Name one view."""
        name = request.path_params["name"]
        self._asking.target(name)
        return JSONResponse({"id": name, "object": "model", "created": self._created, "owned_by": "lifelong"})

    async def figures(self, request: Request) -> Response:
        """Return what Prometheus asks for."""
        gauges = {"texts_active": self.worker.active, "texts_waiting": self.worker.waiting}
        return PlainTextResponse(
            self.metrics.text(self.worker.counts, gauges), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def completions(self, request: Request) -> Response:
        """Write texts that go on from prompts."""
        asked_for = read_request(CompletionRequest, await self._body(request))
        asked = self._asking.completion(asked_for)
        echoes = await self._echoes(asked_for, asked) if asked_for.echo else {}
        return await self._answer(request, asked_for, asked, echoes, chat=False)

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        asked_for = read_request(ChatRequest, await self._body(request))
        asked = self._asking.chat(asked_for)
        return await self._answer(request, asked_for, asked, {}, chat=True)

    async def embeddings(self, request: Request) -> Response:
        """Return vectors of texts."""
        asked_for = read_request(EmbeddingRequest, await self._body(request))
        view, texts = self._asking.embedding(asked_for)
        assert isinstance(self._views, Views)  # an export was refused
        found = await asyncio.wrap_future(self.worker.call(partial(embed, self._views, view, texts)))
        tokens = sum(map(len, texts))
        return JSONResponse(vectors(asked_for.model, found, tokens, asked_for.encoding_format))

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._settings.max_body)

    async def _echoes(self, asked_for: CompletionRequest, asked: Asked) -> dict[int, Piece]:
        """Return what stands before each text: its prompt, with log-probabilities where they are asked for."""
        view, top, found = self._asking.target(asked_for.model), asked_for.logprobs, {}
        for number, prompt in enumerate(asked.prompts):
            tokens: list[Token] = []
            if top is not None:
                assert isinstance(self._views, Views)  # an export was refused
                ids, share = prompt.ids, self._settings.fixed_share
                scored = await asyncio.wrap_future(
                    self.worker.call(partial(score, self._views, view, ids, top, fixed_share=share))
                )
                tokens = scored if prompt.opened else [Token(ids[0], None, ()), *scored]
            for sample in range(asked_for.n):
                found[number * asked_for.n + sample] = Piece(prompt.text, tokens)
        return found

    async def _answer(
        self, request: Request, asked_for: WritingRequest, asked: Asked, echoes: dict[int, Piece], *, chat: bool
    ) -> Response:
        reply = Reply(asked_for.model, self._views.tokenizer, chat=chat)
        wants_logs = any(job.logprobs is not None for job in asked.jobs) or any(echo.tokens for echo in echoes.values())
        counted: dict[int, int] = {}

        def logs(piece: Piece) -> dict[str, Any] | None:
            return reply.logprobs(piece.tokens) if wants_logs else None

        def follow(receive: Receive) -> Pieces:
            return self._timed(self.postman.follow(self.worker, asked.jobs, receive), asked.jobs)

        def used() -> dict[str, int]:
            return usage(asked.prompt_tokens, sum(counted.values()))

        def chunks(number: int, piece: Piece, first: bool) -> list[dict[str, Any]]:
            if first:
                piece = echoes.get(number, Piece()).joined(piece)
            counted[number] = piece.written
            own: dict[str, Any] = {"experts": piece.experts} if piece.last else {}
            if first:
                own["sources"] = asked.sources
            return [reply.chunk([reply.delta(number, piece, logs(piece), first=first)], **own)]

        def closing() -> list[dict[str, Any]]:
            wanted = asked_for.stream_options is not None and asked_for.stream_options.include_usage
            return [reply.chunk([], used())] if wanted else []

        if asked_for.stream and asked.jobs:
            return EventStream(follow, chunks, closing, lambda error: self.note(request, error))
        texts = {number: echoes.get(number, Piece()) for number in range(len(asked.jobs) or len(echoes))}
        if asked.jobs:
            async with contextlib.aclosing(follow(request.receive)) as pieces:
                async for number, piece in pieces:
                    if piece.error is not None:
                        raise piece.error
                    texts[number] = texts[number].joined(piece)
                    counted[number] = piece.written
            if not all(piece.last for piece in texts.values()):
                return Response(status_code=499)  # the client is gone: nobody reads this
        else:
            texts = {number: replace(piece, finish="length") for number, piece in texts.items()}
        choices = [reply.choice(number, piece, logs(piece)) for number, piece in texts.items()]
        experts = [piece.experts for piece in texts.values() if piece.experts]
        return JSONResponse(reply.whole(choices, used(), experts=experts, sources=asked.sources))

    async def _timed(self, pieces: Pieces, jobs: list[Job]) -> Pieces:
        """Yield what comes, and count how long it took."""
        try:
            async with contextlib.aclosing(pieces):
                async for item in pieces:
                    yield item
        finally:
            for job in jobs:
                if job.first is not None:
                    self.metrics.first_token.add(job.first)
                self.metrics.request.add(time.monotonic() - job.since)

    def note(self, request: Request, error: Exception) -> None:
        """Log an error that nobody foresaw."""
        if as_request_error(error).status >= 500:
            _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
