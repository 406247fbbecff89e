"""`lifelong import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit
from lifelong.errors import LifelongError


def bring(
    path: Annotated[
        Path,
        Parameter(
            help="A GGUF file (llama, qwen2, qwen3, gpt2), a Hugging Face directory, or a LoRA adapter made by PEFT."
        ),
    ],
    *,
    out: Annotated[Path | None, Parameter(help="The model directory to write.")] = None,
    into: Annotated[Path | None, Parameter(help="Of an adapter: the model directory that it joins.")] = None,
    name: Annotated[str | None, Parameter(help="Of an adapter: what it is called (default: as its directory).")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model directory of a model made elsewhere, or let an adapter join one; what is changed is said."""
    from lifelong.learn.importing import import_adapter, is_adapter
    from lifelong.train.importing import import_model

    if is_adapter(path):
        if into is None or out is not None:
            raise LifelongError(
                "this is an adapter: it joins a model",
                where=str(path),
                fix="Name the model with --into, without --out.",
            )
        emit(import_adapter(path, into, name), as_json=as_json)
        return
    if out is None or into is not None or name is not None:
        raise LifelongError(
            "a model is imported into a directory of its own",
            where=str(path),
            fix="Name the directory with --out; --into and --name are for adapters.",
        )
    found = import_model(path, out).to_dict()
    notes = found.pop("notes")  # said on the way
    emit({**found, "notes": notes} if as_json else found, as_json=as_json)
