"""The server's paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lifelong.errors import LifelongError
from lifelong.serve.board import Board
from lifelong.serve.errors import RequestError, as_request_error
from lifelong.serve.exported import AnyViews, Exported
from lifelong.serve.guard import Guard, check_address
from lifelong.serve.page import page_response
from lifelong.serve.service import Service
from lifelong.serve.sources import Sources
from lifelong.settings.serve import AddressSettings, ServeSettings

KEY = "LIFELONG_API_KEY"  # the variable that holds the API key
Endpoint = Callable[[Request], Awaitable[Response]]


def serving(views: AnyViews, settings: ServeSettings, board: Board, sources: Sources | None = None) -> Starlette:
    """Return the application that serves a model, with its page.

    Raises:
        LifelongError: it would be open to other machines without a key.
    """
    service = Service(views, settings, sources)
    facts = {
        "mode": "export" if isinstance(views, Exported) else "serve",
        "models": list(views.targets),
        "writes": views.writes,
        "context": views.context,
        "passages": settings.passages if sources is not None else 0,
        "store": sources is not None,
    }
    routes = {
        ("GET", "/v1/models"): service.models,
        ("GET", "/v1/models/{name}"): service.model,
        ("GET", "/metrics"): service.figures,
        ("POST", "/v1/chat/completions"): service.chat,
        ("POST", "/v1/completions"): service.completions,
        ("POST", "/v1/embeddings"): service.embeddings,
    }
    return _application(routes, settings, board, facts, service)


def watching(settings: AddressSettings, board: Board) -> Starlette:
    """Return the application that shows a run; raises LifelongError as `serving` does."""
    return _application({}, settings, board, {"mode": "watch", "models": [], "writes": False})


def _application(
    routes: Mapping[tuple[str, str], Endpoint],
    settings: AddressSettings,
    board: Board,
    facts: dict[str, Any],
    service: Service | None = None,
) -> Starlette:
    key = settings.api_key or os.environ.get(KEY) or None
    check_address(settings.host, key)

    async def home(request: Request) -> Response:
        return page_response()

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def state(request: Request) -> Response:
        return JSONResponse({**facts, **await run_in_threadpool(board.state)})

    async def run(request: Request) -> Response:
        start = request.query_params.get("from", "0")
        if not start.isdecimal() or len(start) > 15:
            raise RequestError(400, "'from' is a number of bytes", param="from")
        try:
            found = await run_in_threadpool(board.rows, request.path_params["name"], int(start))
        except LifelongError as error:
            raise RequestError(404, str(error)) from None
        return JSONResponse(found)

    every: dict[tuple[str, str], Endpoint] = {
        ("GET", "/"): home,
        ("GET", "/health"): health,
        ("GET", "/lifelong/state"): state,
        ("GET", "/lifelong/runs/{name}"): run,
        **routes,
    }

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if service is not None:
            service.open()
        yield
        if service is not None:
            await run_in_threadpool(service.close)

    return Starlette(
        routes=[Route(path, _guarded(path, call, service), methods=[method]) for (method, path), call in every.items()],
        middleware=[Middleware(Guard, host=settings.host, allowed=settings.allowed_hosts, api_key=key)],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


def _guarded(path: str, call: Endpoint, service: Service | None) -> Endpoint:
    """Return an endpoint whose errors have OpenAI's shape, and whose answers are counted."""

    async def endpoint(request: Request) -> Response:
        try:
            response = await call(request)
        except Exception as error:
            if service is not None:
                service.note(request, error)
            response = as_request_error(error).response
        if service is not None:
            service.metrics.requests[path, response.status_code] += 1
        return response

    return endpoint


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is no such path", 405: "this path takes another method"}.get(error.status_code, error.detail)
    return RequestError(error.status_code, said).response
