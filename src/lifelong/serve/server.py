"""Listening."""

from __future__ import annotations

import errno
import socket

import uvicorn
from starlette.applications import Starlette

from lifelong.errors import LifelongError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        LifelongError: the port is taken, or the address is none of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise LifelongError(f"there is no address '{host}': {error.strerror}", where="host") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(512)
    except OSError as error:
        found.close()
        taken = error.errno == errno.EADDRINUSE
        what = f"port {port} is taken by another program" if taken else f"cannot listen: {error.strerror}"
        raise LifelongError(what, where=f"{host}:{port}", fix="Give another one, or 0 for any that is free.") from None
    return found


def address_of(listening: socket.socket) -> str:
    """Return the URL of a socket that listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def new_server(app: Starlette) -> uvicorn.Server:
    """Return what answers with an application; ``run(sockets=[...])`` goes on until Ctrl-C, or ``should_exit``."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
