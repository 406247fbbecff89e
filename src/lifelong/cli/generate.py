"""`lifelong generate`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import Adapter, AsJson, Model, ask, configurable, emit, note_if_alone
from lifelong.settings.generate import GenerateSettings


@configurable(GenerateSettings)
def generate(
    model: Model,
    *,
    prompt: Annotated[str | None, Parameter(help="The beginning of the text.")] = None,
    interactive: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Ask for one prompt after another.")
    ] = False,
    settings: GenerateSettings,
    adapter: Adapter = "routed",
    as_json: AsJson = False,
) -> None:
    """Let a model continue a text."""
    from lifelong.errors import LifelongError
    from lifelong.generate.engine import generate as write
    from lifelong.model.directory import load_model

    if (prompt is None) is not interactive or (interactive and as_json):
        raise LifelongError("give either --prompt TEXT or --interactive (without --json)")
    loaded, tokenizer = load_model(model, device=settings.device, adapter=adapter)
    note_if_alone(loaded, settings)
    go_on: Callable[..., list[str]] = partial(write, loaded, tokenizer, **settings.sampling())
    if as_json:
        experts: list[dict[str, float]] = []
        texts = go_on(prompt, on_experts=experts.append)
        emit({"prompt": prompt, "texts": texts, **({"experts": experts} if experts else {})}, as_json=True)
        return
    if interactive:
        print("A prompt a line; an empty line or Ctrl-D ends.", file=sys.stderr)
        prompt = ask("> ") or None
    while prompt is not None:
        # An encoder-decoder model writes a text of its own, which does not go on from the prompt.
        shown = prompt if loaded.config.causal else ""
        if settings.num_samples == 1:
            print(shown, end="", flush=True)
            go_on(prompt, on_text=lambda piece: print(piece, end="", flush=True))
            print()
        else:
            for number, text in enumerate(go_on(prompt), start=1):
                print(f"--- {number}\n{shown}{text}")
        prompt = (ask("> ") or None) if interactive else None
