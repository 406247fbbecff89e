"""What a server must not do, whatever it is sent."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from driving import refused

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def web(address: str) -> Any:
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (CHAT, {"model": "base", "messages": HELLO, "n": -1}, "n: "),
        (CHAT, {"model": "base", "messages": HELLO, "n": 1000}, "1000 is more than the 16"),
        (CHAT, {"model": "base", "messages": HELLO, "temperature": "hot"}, "temperature: "),
        (CHAT, {"model": "base", "messages": HELLO, "max_tokens": 10**9}, "this model reads 256 tokens"),
        (CHAT, {"model": "base", "messages": HELLO * 10_000}, "10000 is more than the 256"),
        (CHAT, {"model": "base", "messages": []}, "messages: "),
        (CHAT, {"model": "base", "messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role: "),
        (CHAT, {"model": "base", "messages": HELLO, "chat_template": "{{ 1 }}"}, "never run"),
        (CHAT, {"model": "base", "messages": HELLO, "temprature": 1}, "Did you mean 'temperature'?"),
        (CHAT, {"model": "base", "messages": HELLO, "tools": [{"type": "function"}]}, "'tools' is not supported"),
        (CHAT, {"model": "base", "messages": HELLO, "passages": 2}, "no store"),
        (CHAT, {"messages": HELLO}, "model: "),
        (CHAT, {"model": "base", "messages": [{"role": "user", "content": "\ud800"}]}, "half"),
        (CHAT, [1, 2], "must be a JSON object"),
        ("/v1/completions", {"model": "base", "prompt": "list " * 2000}, "the prompt has"),
        ("/v1/completions", {"model": "base", "prompt": [10**6]}, "token 1000000 is none"),
        ("/v1/completions", {"model": "base", "prompt": "x", "stop": [""]}, "an empty text"),
        ("/v1/embeddings", {"model": "base", "input": "x"}, "this model writes text"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(web: httpx.Client, path: str, body: Any, said: str) -> None:
    found = web.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert found.status_code == 400
    assert said in found.json()["error"]["message"]
    assert found.json()["error"].keys() == {"message", "type", "param", "code"}


def test_what_is_no_json_is_refused(web: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"{", b"\xff\xfe", b"[" * 100_000, b""):
        found = web.post(CHAT, content=body, headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_json")
    assert web.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert web.get("/nothing").json()["error"]["type"] == "invalid_request_error"
    assert web.get(CHAT).status_code == 405


def test_a_body_of_100_mb_is_refused_and_not_kept(web: httpx.Client) -> None:
    def parts() -> Any:
        for _ in range(100):
            yield b"x" * 1_000_000

    found = web.post(CHAT, content=parts(), headers={"Content-Type": "application/json"})
    assert (found.status_code, found.json()["error"]["code"]) == (413, "body_too_large")


def test_names_and_pages_of_others_are_refused(web: httpx.Client) -> None:
    assert web.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert web.get("/v1/models", headers={"Host": "127.0.0.1.evil.example:80"}).status_code == 403
    assert web.get("/v1/models", headers={"Host": "localhost:1234"}).status_code == 200
    assert web.get("/v1/models", headers={"Host": "[::1]:99"}).status_code == 200
    assert web.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    assert web.get("/v1/models", headers={"Origin": "null"}).status_code == 403
    allowed = web.options(CHAT, headers={"Origin": "http://localhost:1", "Access-Control-Request-Method": "POST"})
    assert not any(name.startswith("access-control") for name in allowed.headers)


def test_a_key_opens_the_server(model_dir: Path, serve: Any) -> None:
    with serve(model_dir, api_key="secret") as address:
        assert httpx.get(f"{address}/health").status_code == 200
        for key in (None, "Bearer wrong", "secret"):
            found = httpx.get(f"{address}/v1/models", headers={"Authorization": key} if key else {})
            assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_server_for_other_machines_needs_a_key(
    model_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIFELONG_API_KEY", raising=False)
    assert "--api-key" in refused(capsys, "serve", model_dir, "--host", "0.0.0.0", "--device", "cpu")


def test_a_port_that_is_taken_ends_with_exit_code_2(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert "is taken" in refused(capsys, "serve", model_dir, "--port", port, "--device", "cpu")
    assert "no such" in refused(capsys, "watch", model_dir / "nowhere")
    assert "no run here" in refused(capsys, "watch", model_dir)


def active(web: httpx.Client) -> int:
    lines = web.get("/metrics").text.splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("lifelong_texts_active ")))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_is_gone_frees_its_slot(web: httpx.Client, address: str, stream: bool) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    # Every token but the end is allowed to come: the text would go on to the end of the context.
    body = {"model": "base", "messages": HELLO, "max_tokens": 200, "stream": stream, "n": 8}
    connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
    deadline = time.monotonic() + 60
    while not active(web):
        assert time.monotonic() < deadline
    before = web.get("/metrics").text
    connection.close()
    while active(web):
        assert time.monotonic() < deadline
    given_up = [line for line in web.get("/metrics").text.splitlines() if line.startswith("lifelong_given_up_total")]
    assert given_up != [line for line in before.splitlines() if line.startswith("lifelong_given_up_total")]


def test_more_texts_than_may_wait_are_refused(model_dir: Path, serve: Any) -> None:
    with serve(model_dir, slots=1, queue=3) as address:
        body = {"model": "base", "prompt": "a", "n": 4, "max_tokens": 2}
        found = httpx.post(f"{address}/v1/completions", json=body, timeout=60)
        assert (found.status_code, found.json()["error"]["code"]) == (429, "overloaded")
        assert httpx.post(f"{address}/v1/completions", json={**body, "n": 3}, timeout=60).status_code == 200


def test_a_models_own_template_is_never_run(model_dir: Path, serve: Any, tmp_path: Path) -> None:
    """Conversations become ids by the special tokens, with no template language at all."""
    import shutil

    place = tmp_path / "hostile"
    shutil.copytree(model_dir, place)
    config = json.loads((place / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for i in range(10**12) %}{{ ''.__class__.__mro__ }}{% endfor %}"
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    with serve(place) as address:
        body = {"model": "base", "messages": HELLO, "max_tokens": 2}
        assert httpx.post(f"{address}{CHAT}", json=body, timeout=60).status_code == 200
