"""What holds for all tests: no network (sockets connect to this machine only), no deadlines."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import hypothesis
import pytest

# A busy machine is no error.
hypothesis.settings.register_profile("lifelong", deadline=None)
hypothesis.settings.load_profile("lifelong")

# For libraries that would look a model up on the hub, also in the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The models of tests are tiny: a second thread costs more than it gains.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):  # a path: a Unix socket
        return True
    host = str(address[0])
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    patch = pytest.MonkeyPatch()

    def guarded(name: str) -> None:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            if not _is_local(arguments[-1]):
                raise RuntimeError(f"a test tried to reach the network: {arguments[-1]!r}")
            return original(self, *arguments)

        patch.setattr(socket.socket, name, call)

    for name in ("connect", "connect_ex", "sendto"):
        guarded(name)
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host is not None and not _is_local((host.decode() if isinstance(host, bytes) else host,)):
            raise RuntimeError(f"a test tried to look up {host!r}")
        return resolve(host, *arguments, **options)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    patch.undo()


@pytest.fixture
def interrupted_at() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which Ctrl-C is pressed after a step of whatever trains."""
    from lifelong.train.folder import RunFolder

    @contextmanager
    def context(step: int) -> Iterator[None]:
        log = RunFolder.log

        def interrupt(self: RunFolder, row: dict[str, Any]) -> None:
            log(self, row)
            if row["step"] == step:
                signal.raise_signal(signal.SIGINT)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(RunFolder, "log", interrupt)
            yield

    return context
