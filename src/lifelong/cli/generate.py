"""`lifelong generate`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, configurable, emit
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
    as_json: AsJson = False,
) -> None:
    """Let a model continue a text."""
    from lifelong.errors import LifelongError
    from lifelong.generate.engine import generate as write
    from lifelong.model.directory import load_model

    if (prompt is None) is not interactive or (interactive and as_json):
        raise LifelongError("give either --prompt TEXT or --interactive (without --json)")
    loaded, tokenizer = load_model(model, device=settings.device)
    sampling: dict[str, Any] = settings.sampling()
    if interactive:
        print("A prompt a line; an empty line or Ctrl-D ends.", file=sys.stderr)
        while prompt := _ask():
            _stream(
                lambda on_text, text=prompt: write(
                    loaded, tokenizer, text, **sampling | {"num_samples": 1}, on_text=on_text
                ),
                prompt,
            )
        return
    assert prompt is not None
    if as_json or settings.num_samples > 1:
        texts = write(loaded, tokenizer, prompt, **sampling)
        emit({"prompt": prompt, "texts": texts}, as_json=as_json, show=lambda: _show(prompt, texts))
    else:
        _stream(lambda on_text: write(loaded, tokenizer, prompt, **sampling, on_text=on_text), prompt)


def _ask() -> str:
    try:
        return input("> ")
    except EOFError:
        return ""


def _stream(write: Any, prompt: str) -> None:
    print(prompt, end="", flush=True)
    write(lambda piece: print(piece, end="", flush=True))
    print()


def _show(prompt: str, texts: list[str]) -> None:
    for number, text in enumerate(texts, start=1):
        print(f"--- {number}\n{prompt}{text}")
