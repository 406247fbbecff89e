"""Time and tokens until our default recipe is as good as nanoGPT's AdamW recipe after 1.2M tokens.

Corpus: the sources of Python's standard library (without its tests), cleaned and split by file through
`lifelong.text.build_corpus`; one tokenizer, trained on the train split. All models read the same batches in the same
order (a loader of lifelong; nanoGPT's own draws windows at random), nanoGPT --batch rows a step and lifelong --rows,
and are scored by `lifelong.evaluate.bits.score`.

- The bar: nanoGPT's model (--nanogpt DIR) of the nearest parameter count with its shakespeare-char recipe without
  dropout, as its README says for a CPU: AdamW 1e-3, betas 0.9 and 0.99, weight decay 0.1, clipping at 1, 100 steps of
  warm-up, cosine to 1e-4 at the end, fp32, no compile. Without --nanogpt, our own model with plain initialisation
  under that recipe, and the table says so.
- Ours: the trainer's defaults (Muon 3e-3 and AdamW, zero-initialised o_proj and down_proj, wsd, 8 rows a step), a new
  run per budget, each with its own decay, from the shortest up. The first that is at the bar or below it counts.

Times are wall seconds of training alone, compiling included. --ablate changes the parts of the recipe one by one at
that budget (optimizer, embeddings' rate, start, schedule, batch ramp, compiling, precision where there is bf16), and
then several.
With `--bar BPB --budgets N` nanoGPT's run is left out.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from common import count, library_corpus, machine, parse_with_shape, print_table, shape, write_json
from nanogpt import NanoGPT, nanogpt_model, nanogpt_optimizer
from torch import nn

from lifelong.device import has_compiler, pick_precision
from lifelong.evaluate.bits import score
from lifelong.model.transformer import Transformer
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.tokens import BPETokenizer, Loader, WindowSource, build_cache
from lifelong.tokens.loader import Batch
from lifelong.train.loop import Plan, train_steps
from lifelong.train.optim import NEW_EMBEDDINGS, build_optimizers, learning_rate, schedule
from lifelong.train.planning import compile_blocks

NANOGPT = OptimizerSettings(name="adamw", learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.99), grad_clip=1.0)


@dataclass(frozen=True)
class Recipe:
    """How ours is trained: the trainer's defaults for a new model, unless a part is taken away."""

    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(embedding_scale=NEW_EMBEDDINGS))
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    zero: bool = True
    compile: bool = False
    bf16: bool = False
    ramp: bool = False


@dataclass(frozen=True)
class Ramp:
    """As many rows as ``steps`` batches of a loader have, the first half of them in batches of half the size."""

    loader: Loader
    steps: int

    @property
    def batch_size(self) -> int:
        """Rows of the batches at the end."""
        return self.loader.batch_size

    @property
    def total_steps(self) -> int:
        """Batches in all."""
        return self.steps + self.steps // 2

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        whole, small = self.loader.batch_size, self.loader.batch_size // 2
        half = self.steps // 2 * 2  # small batches
        if step < half:
            return self.loader.rows(step * small, small)
        return self.loader.rows(half * small + (step - half) * whole, whole)


def ablations(whole: Recipe) -> dict[str, Recipe]:
    """Return the recipe with one part changed at a time, and at last with several."""
    adamw = OptimizerSettings(name="adamw", learning_rate=1e-3)
    parts = {
        "AdamW 1e-3 instead of Muon": replace(whole, optimizer=adamw),
        "embeddings at the peak rate": replace(whole, optimizer=OptimizerSettings(embedding_scale=1.0)),
        "plain start instead of zeros": replace(whole, zero=False),
        "cosine instead of wsd": replace(whole, schedule=ScheduleSettings(kind="cosine")),
        "constant rate instead of wsd": replace(whole, schedule=ScheduleSettings(kind="constant")),
        "a batch ramp: half the text in half batches": replace(whole, ramp=True),
    }
    if has_compiler():
        parts["blocks not compiled" if whole.compile else "blocks compiled"] = replace(whole, compile=not whole.compile)
    if whole.bf16:
        parts["fp32 instead of bf16"] = replace(whole, bf16=False)
    plain = replace(whole, optimizer=adamw, schedule=ScheduleSettings(kind="cosine"), zero=False)
    return parts | {"AdamW, plain start and cosine": plain}


class Bench:
    """Corpus, tokenizer and loader of all runs, and the table's rows so far."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.corpus = library_corpus(work, options.corpus_bytes)
        self.tokenizer = BPETokenizer(options.vocab).train(document.text for document in self.corpus.train)
        self.cache = build_cache(self.corpus.train, self.tokenizer, work / "cache")
        windows = WindowSource(self.cache, options.length)
        self.loader = Loader([(windows, 1.0)], batch_size=options.batch)
        self.own_loader = Loader([(windows, 1.0)], batch_size=options.rows)
        self.config = shape(options, self.tokenizer.vocab_size)
        self.recipe = Recipe(compile=options.compile, bf16=pick_precision(torch.device("cpu")) == "bf16")
        self.results: list[dict[str, Any]] = []

    def run(
        self,
        name: str,
        model: Any,
        optimizers: list[Any],
        rate: Callable[[int], float],
        steps: int,
        *,
        loader: Loader | Ramp | None = None,
        bf16: bool = False,
    ) -> float:
        """Train, score on the test split, keep the row; returns the bits per byte."""
        plan = Plan(total_steps=steps, optimizers=optimizers, rate=rate, bf16=bf16)
        start, taken, tokens = time.perf_counter(), [], 0
        for step in train_steps(model, loader or self.loader, plan):
            taken.append(step.seconds)
            tokens += step.tokens
        seconds = time.perf_counter() - start
        length, limit = self.options.length, self.options.eval_bytes
        test = score(model, self.tokenizer, self.corpus.test, sequence_length=length, max_bytes=limit)
        self.results.append(
            {
                "name": name,
                "parameters": count(model),
                "steps": steps,
                "rows": (loader or self.loader).batch_size,
                "tokens": tokens,
                "seconds": seconds,
                "median_step_seconds": statistics.median(taken),
                "bits_per_byte": test.bits_per_byte,
                "standard_error": test.standard_error,
                "test_bytes": test.bytes,
            }
        )
        print(f"{name}: {steps} steps, {seconds:.0f} s, {test.bits_per_byte:.4f} bits per byte", flush=True)
        return test.bits_per_byte

    def ours(self, name: str, steps: int, recipe: Recipe) -> float:
        """Run our recipe, or what is left of it."""
        torch.manual_seed(self.options.seed)
        settings = recipe.optimizer
        model = Transformer(self.config)
        if not recipe.zero:
            plain_start(model)
        if recipe.compile:
            compile_blocks(model, "on", 0.0)
        loader: Loader | Ramp = self.own_loader
        if recipe.ramp:
            loader = Ramp(self.own_loader, steps)
            steps = loader.total_steps
        rate = schedule(recipe.schedule, steps, learning_rate(settings))
        optimizers = build_optimizers(model, settings, bf16=recipe.bf16)
        return self.run(name, model, optimizers, rate, steps, loader=loader, bf16=recipe.bf16)

    def bar(self, steps: int) -> float:
        """Run nanoGPT's recipe."""
        torch.manual_seed(self.options.seed)
        plan = ScheduleSettings(kind="cosine", warmup_steps=self.options.nanogpt_warmup, min_lr=1e-4)
        rate = schedule(plan, steps, 1e-3)
        if self.options.nanogpt:
            gpt = nanogpt_model(self.options.nanogpt, self.config, self.config.parameters)
            model = NanoGPT(gpt, self.config)
            return self.run(f"nanoGPT, {gpt.config.n_layer} layers", model, [nanogpt_optimizer(gpt)], rate, steps)
        ours = Transformer(self.config)
        plain_start(ours)
        return self.run("our model, nanoGPT's recipe", ours, build_optimizers(ours, NANOGPT), rate, steps)


def plain_start(model: Transformer) -> None:
    """Give o_proj and down_proj GPT-2's start (0.02 over the root of twice the layers) instead of zeros."""
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * model.config.num_layers))


def main() -> None:
    """Run the bar, the budgets and the ablation; print the table, write the JSON after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bar-tokens", type=int, default=1_200_000, help="tokens that nanoGPT's recipe is given")
    parser.add_argument("--bar", type=float, metavar="BPB", help="bits per byte to reach, instead of running nanoGPT's")
    parser.add_argument("--nanogpt-warmup", type=int, default=100, help="its documented value")
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[60, 75, 90, 110, 140, 200, 400], help="steps of our recipe"
    )
    parser.add_argument("--rows", type=int, default=8, help="rows of a step of our recipe: the trainer's default")
    parser.add_argument("--all-budgets", action="store_true", help="do not stop at the first budget that is enough")
    parser.add_argument("--ablate", action="store_true", help="also with one part of the recipe changed at a time")
    parser.add_argument("--compile", action="store_true", help="our blocks compiled, its time counted")
    parser.add_argument("--corpus-bytes", type=int, default=20_000_000)
    parser.add_argument("--eval-bytes", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parse_with_shape(parser)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options, Path(work))
        steps = round(options.bar_tokens / bench.loader.tokens_per_batch)
        bar = options.bar or bench.bar(steps)
        save(bench, bar, None)
        reached = None
        for budget in sorted(options.budgets):
            bits = bench.ours(f"lifelong, {budget} steps", budget, bench.recipe)
            reached = bench.results[-1] if reached is None and bits <= bar else reached
            save(bench, bar, reached)
            if reached and not options.all_budgets:
                break
        if options.ablate:
            # The budget that was enough; else the last and longest, whose row is the one to compare with, too.
            whole = reached or bench.results[-1]
            for name, recipe in ablations(bench.recipe).items():
                bench.ours(name, whole["steps"], recipe)
                bench.results[-1]["above_whole"] = bench.results[-1]["bits_per_byte"] - whole["bits_per_byte"]
                bench.results[-1]["seconds_over_whole"] = bench.results[-1]["seconds"] / whole["seconds"]
                save(bench, bar, reached)
        report(bench, bar, reached)


def report(bench: Bench, bar: float, reached: dict[str, Any] | None) -> None:
    """Print the table."""
    first = bench.results[0] if bench.options.bar is None else None

    def faster(row: dict[str, Any]) -> list[str]:
        if first is None or row["bits_per_byte"] > bar:
            return ["", ""]
        return [f"{first['seconds'] / row['seconds']:.2f}x", f"{first['tokens'] / row['tokens']:.2f}x"]

    rows = []
    for row in (row for row in bench.results if "above_whole" not in row):
        cells = [f"{row['parameters'] / 1e6:.2f}M", str(row["steps"]), str(row["rows"]), f"{row['tokens'] / 1e6:.2f}M"]
        cells += [f"{row['seconds']:.0f}", f"{row['median_step_seconds']:.2f}"]
        cells += [f"{row['bits_per_byte']:.3f} ± {row['standard_error'] or 0:.3f}", *faster(row)]
        rows.append([row["name"], *cells])
    verdict = f"reached by {reached['name']}" if reached else "not reached by any budget"
    print_table(
        f"Time to {bar:.3f} bits per byte of held-out files: {verdict}",
        ["", "parameters", "steps", "rows", "tokens", "s", "s/step", "test bpb", "faster", "fewer tokens"],
        rows,
        [
            f"Corpus: {bench.cache.bytes / 1e6:.1f} MB, {bench.cache.tokens / 1e6:.2f}M tokens to train on; "
            f"{len(bench.corpus.test)} files held out. ± is over the choice of files, shared by all rows.",
            str(machine()),
        ],
    )
    changed = [row for row in bench.results if "above_whole" in row]
    if changed:
        print_table(
            f"The recipe with parts changed, {changed[0]['steps']} steps each",
            ["", "test bpb", "above the whole", "s", "over the whole"],
            [
                [
                    row["name"],
                    f"{row['bits_per_byte']:.3f}",
                    f"{row['above_whole']:+.3f}",
                    f"{row['seconds']:.0f}",
                    f"{row['seconds_over_whole']:.2f}x",
                ]
                for row in changed
            ],
            ["One seed each; below zero: better without."],
        )


def save(bench: Bench, bar: float, reached: dict[str, Any] | None) -> None:
    """Write the results so far."""
    flags = {key: str(value) if isinstance(value, Path) else value for key, value in vars(bench.options).items()}
    head = {"benchmark": "time_to_quality", "machine": machine(), "model": bench.config.model_dump(), "flags": flags}
    write_json(bench.options.json, head | {"bar": bar, "reached": reached, "runs": bench.results})


if __name__ == "__main__":
    main()
