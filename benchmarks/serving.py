"""Serving: tokens per second at 1, 8 and 32 clients, time to the first token, the server's own cost, and the page's.

The server runs in a process of its own, as `lifelong serve` starts it; the clients stream completions, each asking
again as soon as it was answered. The engine alone is `lifelong.generate.engine.write` with as many texts side by side,
in this process, in turn with the server. Weights are random unless `--model` is given: speed does not depend on them.
`--export DIR` serves an ONNX or GGUF export of that model, too, which writes one text at a time. With `--gguf` (of that
model: `lifelong export MODEL --to gguf --precision fp32 --out DIR`) llama.cpp's server does the same through xllamacpp.
The page is opened in headless Chromium, where there is one and playwright.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pydoc_data.topics as topics
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import torch
from common import machine, print_table, write_json

from lifelong.generate.engine import write
from lifelong.generate.sampling import Sampling
from lifelong.model.directory import load_model, write_model_files
from lifelong.model.transformer import Transformer
from lifelong.settings.presets import load_preset
from lifelong.tokens.tokenizer import BPETokenizer

PROMPT = "The import statement finds a module, loads it if need be, and binds names in the namespace where it stands."


def new_model(place: Path, preset: str) -> None:
    """Write a model directory of a preset's shape with random weights."""
    config = load_preset(preset).config()
    tokenizer = BPETokenizer(min(config.vocab_size, 4096)).train([text for _, text in sorted(topics.topics.items())])
    torch.manual_seed(0)
    shape = config.model_copy(update={"vocab_size": tokenizer.vocab_size})
    write_model_files(Transformer(shape), tokenizer, place)


@contextlib.contextmanager
def server(place: Path, slots: int, threads: int) -> Iterator[str]:
    """Run `lifelong serve` in a process of its own; yields its address."""
    flags = ["--port", "0", "--slots", str(slots), "--queue", "256", "--device", "cpu"]
    command = [sys.executable, "-m", "lifelong.cli.app", "serve", str(place), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split(" ")[0]
        assert address.startswith("http"), "the server did not start"
        yield address
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def llama_cpp(file: Path, slots: int, length: int, threads: int) -> Iterator[str]:
    """Run llama.cpp's server in this process; yields its address."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_parallel, settings.n_ctx, settings.port = slots, slots * length, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    running = xllamacpp.Server(settings)
    yield running.listening_address
    del running


async def ask(address: str, tokens: int, seed: int) -> tuple[int, float]:
    """Stream one text; returns its tokens, and the seconds until the first of them.

    Bytes are looked through, not parsed: the clients have the same cores as the server, and are not what is measured.
    """
    parts = urlsplit(address)
    body = {"model": "base", "prompt": PROMPT, "max_tokens": tokens, "stream": True, "seed": seed}
    body |= {"stream_options": {"include_usage": True}, "temperature": 0.8}
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    start, first, found = time.perf_counter(), None, b""
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(head.encode() + data)
    while part := await reader.read(1 << 16):
        found += part
        if first is None and re.search(rb'"text": ?"[^"]', found):
            first = time.perf_counter() - start
    writer.close()
    seconds = time.perf_counter() - start
    used = re.search(rb'"completion_tokens": ?(\d+)', found)
    if not found.startswith(b"HTTP/1.1 200") or used is None:
        raise SystemExit(f"the server said: {found[:500].decode(errors='replace')}")
    return int(used[1]), first if first is not None else seconds


async def load(address: str, clients: int, requests: int, tokens: int) -> dict[str, float]:
    """Let clients ask one text after another; returns tokens per second and times to the first token."""
    await ask(address, 4, 0)

    async def one(number: int) -> list[tuple[int, float]]:
        return [await ask(address, tokens, number * 1000 + turn) for turn in range(requests)]

    start = time.perf_counter()
    found = [item for part in await asyncio.gather(*map(one, range(clients))) for item in part]
    seconds = time.perf_counter() - start
    firsts = [first for _, first in found]
    return {
        "tokens_per_second": sum(written for written, _ in found) / seconds,
        "first_token_median_s": statistics.median(firsts),
        "first_token_worst_s": max(firsts),
    }


def engine_alone(place: Path) -> Callable[[int, int, int], float]:
    """Return a measure of the engine: its tokens per second with so many texts side by side."""
    model, tokenizer = load_model(place, device="cpu")
    write(model, tokenizer, [PROMPT], Sampling(), max_tokens=4)

    def alone(texts: int, requests: int, tokens: int) -> float:
        start, written = time.perf_counter(), 0
        for turn in range(requests):
            found = write(model, tokenizer, [PROMPT] * texts, Sampling(), max_tokens=tokens, seed=turn)
            written += sum(len(one.tokens) for part in found for one in part)
        return written / (time.perf_counter() - start)

    return alone


def page(address: str) -> dict[str, float] | None:
    """Return the page's bytes, its first paint and when it can be used (seconds), or None without a browser."""
    found = {"bytes": float(len(httpx.get(address).content))}
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return found
    if chromium is None:
        return found
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(address)
        tab.wait_for_selector("#question:focus")
        found["usable_s"] = tab.evaluate("performance.now()") / 1000
        found["first_paint_s"] = tab.evaluate("performance.getEntriesByName('first-paint')[0]?.startTime ?? NaN") / 1000
        browser.close()
    return found


def main() -> None:
    """Measure, print a table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--model", type=Path, help="serve this model directory instead of a preset with random weights")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=4, help="texts that each client asks for")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each text")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="also llama.cpp's server with this file")
    parser.add_argument("--export", type=Path, metavar="DIR", help="also this export, in `lifelong serve`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"machine": machine(), "tokens": options.tokens, "requests": options.requests}
    with contextlib.ExitStack() as stack:
        place = options.model
        if place is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
            new_model(place, options.preset)
        slots = max(options.clients)
        with server(place, slots, options.threads) as address:
            result["engine_alone"], result["lifelong"] = measured(address, options, engine_alone(place))
            result["page"] = page(address)
        if options.export is not None:
            with server(options.export, slots, options.threads) as address:
                _, result["export"] = measured(address, options)
        if options.gguf is not None:
            with llama_cpp(options.gguf, slots, 512, options.threads) as address:
                _, result["llama.cpp"] = measured(address, options)
    show(result, options.clients)
    write_json(options.json, result)


def measured(
    address: str, options: argparse.Namespace, alone: Callable[[int, int, int], float] | None = None
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the best round of each number of clients: of the engine alone, and of the server.

    Rounds go through all numbers in turn, and through both.
    """
    engine: dict[str, float] = {}
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for count in options.clients:
            key, one = str(count), asyncio.run(load(address, count, options.requests, options.tokens))
            best[key] = max(best.get(key, one), one, key=lambda found: found["tokens_per_second"])
            if alone is not None and count <= 16:  # `write` has 16 rows
                engine[key] = max(engine.get(key, 0.0), alone(count, options.requests, options.tokens))
    return engine, best


def show(result: dict[str, Any], clients: list[int]) -> None:
    """Print the table."""
    rows = []
    for name in ("lifelong", "export", "llama.cpp"):
        for count in clients if name in result else []:
            found = result[name][str(count)]
            alone = result["engine_alone"].get(str(count)) if name == "lifelong" else None
            first = result[name][str(clients[0])]["tokens_per_second"]
            rows.append(
                [
                    name,
                    str(count),
                    f"{found['tokens_per_second']:,.0f}",
                    f"{found['tokens_per_second'] / first:.2f}x",
                    f"{1000 * found['first_token_median_s']:.0f} ms",
                    "" if alone is None else f"{alone:,.0f}",
                    "" if alone is None else f"{100 * (1 - found['tokens_per_second'] / alone):.0f}%",
                ]
            )
    columns = ["server", "clients", "tokens/s", "of one client", "first token", "engine alone", "overhead"]
    notes = [", ".join(f"page {key}: {value:,.3g}" for key, value in (result["page"] or {}).items())]
    print_table(f"Serving, {result['tokens']} tokens a text", columns, rows, notes)


if __name__ == "__main__":
    main()
