"""How much faster a model with several adapters writes when only the likeliest go on after the prompt.

    python benchmarks/top_experts.py [--preset tiny] [--adapters 5] [--tokens 100] [--json FILE]

The weights are random: the time of a token depends on shapes alone. For every number of experts: tokens per second
after the prompt, the best of several rounds taken in turn, and the bytes of keys and values at the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, print_table, write_json

from lifelong.generate.inference import inference
from lifelong.generate.reading import Reader
from lifelong.model.adapters import AdapterConfig, adapted_layers, attach_adapter
from lifelong.model.decoding import StaticDecoder
from lifelong.model.experts import add_expert
from lifelong.model.transformer import Transformer
from lifelong.settings.presets import load_preset


def with_adapters(preset: str, count: int) -> Transformer:
    """Return a model with random weights, and adapters of the default rank."""
    torch.manual_seed(0)
    model = Transformer(load_preset(preset).config())
    for number in range(count):
        attach_adapter(model, AdapterConfig())
        for _, layer in adapted_layers(model):
            torch.nn.init.normal_(layer.adapter.lora_B, std=0.01)
        add_expert(model, f"adapter-{number}")
    return model


def write(model: Transformer, prompt: int, tokens: int, top: int) -> tuple[float, int]:
    """Return the seconds that ``tokens`` took after the prompt, and the bytes of keys and values."""
    with inference(model), Reader(model, 1, prompt + tokens, top_experts=top) as reader:
        chosen = reader.begin(torch.randint(model.config.vocab_size, (1, prompt)).tolist()).argmax(-1)
        start = time.perf_counter()
        for _ in range(tokens):
            chosen = reader.go_on(chosen.tolist()).argmax(-1)
        took, decoder = time.perf_counter() - start, reader._decoder
        assert isinstance(decoder, StaticDecoder)
        return took, sum(part.nbytes for part in decoder.keys + decoder.values)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--adapters", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=50, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=100, help="tokens to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = with_adapters(options.preset, options.adapters)
    everyone = options.adapters + 1
    kinds = [everyone, *(top for top in (3, 2, 1) if top < everyone)]
    rounds: list[dict[int, tuple[float, int]]] = [
        {top: write(model, options.prompt, options.tokens, top) for top in kinds} for _ in range(options.rounds)
    ]
    found: list[dict[str, Any]] = []
    for top in kinds:
        took = min(times[top][0] for times in rounds)
        found.append({"experts": top, "tokens_per_second": options.tokens / took, "cache_bytes": rounds[0][top][1]})
    rows = [
        [
            str(item["experts"]),
            f"{item['tokens_per_second']:,.1f}",
            f"{item['tokens_per_second'] / found[0]['tokens_per_second']:.2f}x",
            f"{item['cache_bytes'] / 1e6:.1f} MB",
        ]
        for item in found
    ]
    title = f"{options.preset}: {options.adapters} adapters and the base, {options.prompt} + {options.tokens} tokens"
    print_table(title, ["experts that go on", "tokens/s", "of all", "keys and values"], rows, [str(machine())])
    write_json(options.json, {"options": {**vars(options), "json": None}, "runs": found, "machine": machine()})


if __name__ == "__main__":
    main()
