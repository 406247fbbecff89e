"""Who may ask: the host that a request names, the page that sent it, the key it shows, and how much it sends."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lifelong.errors import LifelongError
from lifelong.serve.errors import RequestError

OPEN = ("/", "/health")  # say nothing about the model, and are there without a key
_DISCARDED = 512_000_000  # bytes of a refused body that are read, so that its sender sees the answer
_SECONDS = 30.0  # in which a body must have come


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, api_key: str | None) -> None:
    """Raise LifelongError where a server would be open to others without a key."""
    if not is_loopback(host) and api_key is None:
        raise LifelongError(
            f"{host} can be reached from other machines, and there is no key",
            where="host",
            fix="Give --api-key KEY, or set LIFELONG_API_KEY.",
        )


class Guard:
    """Refuses what this server does not answer, before anything of it is read.

    A web page of another origin can send a browser here under a name that it owns (DNS rebinding), so the host must be
    one that is known: an address or ``localhost`` where the server listens on loopback, and ``allowed``.
    """

    def __init__(self, app: ASGIApp, *, host: str, allowed: Collection[str], api_key: str | None) -> None:
        self._app, self._key = app, api_key.encode() if api_key else None
        self._local = is_loopback(host)
        self._allowed = {name.lower() for name in (host, *allowed)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check(scope["path"], scope["method"], headers)
        except RequestError as error:
            await discard(receive)
            await error.response(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _check(self, path: str, method: str, headers: Mapping[str, str]) -> None:
        if not self._knows(headers.get("host", "")):
            raise RequestError(
                403, "this server does not answer under this name (--allowed-hosts)", code="host_not_allowed"
            )
        origin = headers.get("origin")
        if origin is not None and not self._knows(urlsplit(origin).netloc):
            raise RequestError(403, "a page of another origin may not ask here", code="origin_not_allowed")
        if self._key is not None and path not in OPEN:
            kind, _, shown = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode("latin-1"), self._key):
                raise RequestError(401, "the API key is missing or wrong", code="invalid_api_key")
        # A form of a foreign page can send text, but no JSON, without asking first.
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise RequestError(415, "send JSON, with Content-Type: application/json", code="not_json")

    def _knows(self, netloc: str) -> bool:
        try:
            name = (urlsplit(f"//{netloc}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._allowed:
            return True
        if self._local:
            return is_loopback(name)
        try:
            ipaddress.ip_address(name)  # no name, so nobody else's; the key is what counts then
        except ValueError:
            return name == "localhost"
        return True


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request; raises RequestError where it is longer than ``most`` bytes, or too slow."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    parts.append(part)
                elif size > _DISCARDED:
                    break
    except TimeoutError:
        raise RequestError(408, f"the body did not come within {_SECONDS:.0f} seconds") from None
    if size > most:
        raise RequestError(413, f"the body has more than {most} bytes", code="body_too_large")
    return b"".join(parts)


async def discard(receive: Receive) -> None:
    """Read what is left of a body, as far as is reasonable: a sender that is cut off does not see the answer."""
    size, until = 0, time.monotonic() + _SECONDS
    while size < _DISCARDED and time.monotonic() < until:
        try:
            async with asyncio.timeout(_SECONDS):
                message = await receive()
        except TimeoutError:
            return
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
