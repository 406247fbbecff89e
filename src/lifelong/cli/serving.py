"""Answering until Ctrl-C: what the verbs that listen share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from lifelong.settings.serve import AddressSettings

if TYPE_CHECKING:
    from starlette.applications import Starlette


def answer(app: Starlette, settings: AddressSettings) -> None:
    """Listen, say where, and answer until Ctrl-C.

    Raises:
        LifelongError: the port is taken.
    """
    from lifelong.serve.server import address_of, listen, new_server

    listening = listen(settings.host, settings.port)
    print(f"{address_of(listening)}  (Ctrl-C ends)", flush=True)
    with contextlib.closing(listening), contextlib.suppress(KeyboardInterrupt):
        new_server(app).run(sockets=[listening])
