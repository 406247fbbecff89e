from __future__ import annotations

import socket

import pytest


def test_the_guard_lets_nothing_out_but_loopback_in() -> None:
    with socket.socket() as server, socket.socket() as client, socket.socket() as outward:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        with pytest.raises(RuntimeError, match="reach the network"):
            outward.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match="look up"):
        socket.create_connection(("example.org", 80))
