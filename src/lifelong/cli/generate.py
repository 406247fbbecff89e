"""`lifelong generate`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import Adapter, AsJson, Greedy, ModelOrExport, ask, configurable, drawing, emit, note_if_alone
from lifelong.cli.writers import open_writer
from lifelong.settings.generate import GenerateSettings

if TYPE_CHECKING:
    from lifelong.generate.engine import Written


@configurable(GenerateSettings)
def generate(
    model: ModelOrExport,
    *,
    prompt: Annotated[
        list[str] | None, Parameter(negative=(), help="The beginning of the text; may be given several times.")
    ] = None,
    prompt_file: Annotated[
        Path | None, Parameter(help='One prompt a line; in a .jsonl file, strings or {"prompt": "TEXT"}.')
    ] = None,
    interactive: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Ask for one prompt after another.")
    ] = False,
    greedy: Greedy = False,
    settings: GenerateSettings,
    adapter: Adapter = "routed",
    as_json: AsJson = False,
) -> None:
    """Let a model continue a text, or many side by side."""
    from lifelong.errors import LifelongError
    from lifelong.generate.engine import note_to_stderr, write
    from lifelong.generate.prompts import read_prompts
    from lifelong.generate.sampling import Sampling

    if [prompt is None, prompt_file is None, not interactive].count(False) != 1 or (interactive and as_json):
        raise LifelongError("give either --prompt TEXT, --prompt-file FILE or --interactive (without --json)")
    settings = drawing(settings, greedy=greedy)
    prompts = prompt or ([] if prompt_file is None else read_prompts(prompt_file, note_to_stderr))
    loaded, tokenizer, _ = open_writer(model, settings, adapter)
    note_if_alone(loaded, settings)
    more = settings.sampling()
    sampling = Sampling(**{name: more.pop(name) for name in list(more) if name in Sampling.__dataclass_fields__})
    go_on: Callable[..., list[list[Written]]] = partial(write, loaded, tokenizer, sampling=sampling, **more)
    # An encoder-decoder model writes a text of its own, which does not go on from the prompt.
    begun = loaded.config.causal

    if as_json:
        results = [_facts(one, texts) for one, texts in zip(prompts, go_on(prompts), strict=True)]
        emit(results[0] if len(results) == 1 else {"results": results}, as_json=True)
        return
    if interactive:
        print("A prompt a line; an empty line or Ctrl-D ends.", file=sys.stderr)
        while line := ask("> "):
            _show(go_on, [line], settings.num_samples, begun=begun)
        return
    _show(go_on, prompts, settings.num_samples, begun=begun)


def _show(go_on: Any, prompts: list[str], samples: int, *, begun: bool) -> None:
    """Write and print: a single text as it comes, several under their numbers."""
    if len(prompts) * samples == 1:
        waiting = [prompts[0]] if begun else []  # it is printed with the first piece: nothing may come before an error

        def show(piece: str) -> None:
            print("".join(waiting) + piece, end="", flush=True)
            waiting.clear()

        go_on(prompts, on_text=show)
        print("".join(waiting))
        return
    found = go_on(prompts)
    for number, (prompt, texts) in enumerate(zip(prompts, found, strict=True), start=1):
        for sample, one in enumerate(texts, start=1):
            title = [f"{number}"] * (len(prompts) > 1) + [f"{sample}"] * (samples > 1)
            print(f"--- {'.'.join(title)}\n{prompt if begun else ''}{one.text}")


def _facts(prompt: str, texts: list[Written]) -> dict[str, Any]:
    experts = [one.experts for one in texts if one.experts]
    return {
        "prompt": prompt,
        "texts": [one.text for one in texts],
        "finish": [one.finish for one in texts],
        **({"experts": experts} if experts else {}),
    }
