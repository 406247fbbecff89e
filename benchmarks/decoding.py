"""Tokens written and read a second, at batch 1 and 16, against transformers' `generate` and llama.cpp.

Shapes have random weights, which cost what trained ones cost. transformers runs the same weights with its default cache
and with its static one; the faster counts. Contestants take turns, and the best round of each counts. llama.cpp (the
package `llama-cpp-python`) runs with a GGUF file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, print_table, write_json

from lifelong.generate.inference import inference
from lifelong.generate.sampling import Sampling
from lifelong.generate.slots import Slots
from lifelong.model.base import LanguageModel
from lifelong.model.directory import read_model
from lifelong.model.huggingface import to_huggingface
from lifelong.model.transformer import Transformer
from lifelong.model.weights import save_tensors
from lifelong.settings.presets import load_preset

GREEDY = Sampling(temperature=0)


def ours(model: LanguageModel, ids: torch.Tensor, tokens: int, sampling: Sampling = GREEDY) -> float:
    """Return the seconds that our engine takes to read prompts and write after them."""
    start = time.perf_counter()
    with Slots(model, len(ids), ids.shape[1] + tokens) as slots:
        for row in ids.tolist():
            slots.join(row, sampling, max_tokens=tokens, seed=0)
        for _ in range(tokens):
            slots.step()
    return time.perf_counter() - start


def theirs(network: Any, ids: torch.Tensor, tokens: int, **settings: Any) -> float:
    """Return the seconds that transformers takes."""
    start = time.perf_counter()
    network.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
        **settings,
    )
    return time.perf_counter() - start


def llama(file: Path, prompt: int, tokens: int, threads: int) -> Callable[[int], float]:
    """Return a function that measures llama.cpp on one text of so many tokens."""
    from llama_cpp import Llama

    runner = Llama(str(file), n_ctx=prompt + tokens + 8, n_threads=threads, verbose=False)

    def run(count: int) -> float:
        runner.reset()
        start = time.perf_counter()
        for number, _ in enumerate(runner.generate([1 + n % 50 for n in range(prompt)], temp=0.0), start=1):
            if number == count:
                break
        return time.perf_counter() - start

    return run


def twin(model: Transformer, work: Path) -> Any:
    """Return transformers' model with the same weights."""
    import json

    from transformers import AutoModelForCausalLM

    work.mkdir()
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    (work / "config.json").write_text(json.dumps(to_huggingface(model.config, special)), encoding="utf-8")
    tied = model.tied_names
    save_tensors(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied},
        work / "model.safetensors",
        metadata={"format": "pt"},
    )
    return AutoModelForCausalLM.from_pretrained(work).eval()


def contestants(name: str, model: LanguageModel, network: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one model; returns a row for each batch."""
    rows = []
    for batch in options.batches:
        ids = torch.randint(1, model.config.vocab_size, (batch, options.prompt), generator=torch.manual_seed(0))
        ways: dict[str, Callable[[int], float]] = {
            "ours": lambda count, ids=ids: ours(model, ids, count),
            "ours, sampled": lambda count, ids=ids: ours(model, ids, count, Sampling()),
            "transformers": lambda count, ids=ids: theirs(network, ids, count),
            "transformers, static": lambda count, ids=ids: theirs(
                network, ids, count, cache_implementation="static", disable_compile=not options.compile
            ),
        }
        if options.gguf and batch == 1:
            ways["llama.cpp"] = llama(options.gguf, options.prompt, options.tokens, options.threads)
        # Of each way: reading and one token, and reading and all; the difference is what the others take.
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for way in ways.values():
            way(min(4, options.tokens))
        for _ in range(options.rounds):
            for way, run in ways.items():
                times[way].append((run(1), run(options.tokens)))
        best = {
            way: (min(first for first, _ in found), min(whole for _, whole in found)) for way, found in times.items()
        }
        speeds = {way: batch * (options.tokens - 1) / max(whole - first, 1e-9) for way, (first, whole) in best.items()}
        reading = {way: batch * options.prompt / first for way, (first, _) in best.items()}
        rows.append({"model": name, "batch": batch, "tokens_per_second": speeds, "read_per_second": reading})
    return rows


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="*", default=["nano", "tiny", "gpt-small"])
    parser.add_argument("--model", type=Path, metavar="DIR", help="a model directory, too")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="its GGUF, for llama.cpp")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=100, help="tokens to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="let transformers compile with its static cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for name in options.presets:
            model = Transformer(load_preset(name).config())
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(std=0.05)
            with inference(model):
                found += contestants(name, model, twin(model, Path(work) / name), options)
    if options.model:
        from transformers import AutoModelForCausalLM

        loaded, _ = read_model(options.model)
        network = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
        with inference(loaded):
            found += contestants(options.model.name, loaded, network, options)
    cells = []
    for row in found:
        best = max(speed for way, speed in row["tokens_per_second"].items() if way.startswith("transformers"))
        read = max(speed for way, speed in row["read_per_second"].items() if way.startswith("transformers"))
        for way, speed in row["tokens_per_second"].items():
            reads = row["read_per_second"][way]
            cells.append(
                [f"{row['model']}, {way}", f"{row['batch']}", f"{speed:,.0f}", f"{speed / best:.2f}x",
                 f"{reads:,.0f}", f"{reads / read:.2f}x"]
            )  # fmt: skip
    print_table(
        f"Writing {options.tokens} tokens after {options.prompt}, best of {options.rounds} rounds",
        ["", "batch", "tokens/s", "of transformers' best", "read/s", "of transformers' best"],
        cells,
    )
    write_json(options.json, {"benchmark": "decoding", "machine": machine(), "rows": found})


if __name__ == "__main__":
    main()
