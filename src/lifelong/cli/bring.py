"""`lifelong import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit


def bring(
    path: Annotated[Path, Parameter(help="A GGUF file (llama, qwen2, qwen3, gpt2) or a Hugging Face directory.")],
    *,
    out: Annotated[Path, Parameter(help="The model directory to write.")],
    as_json: AsJson = False,
) -> None:
    """Make a model directory of a model made elsewhere; what is added or changed is said."""
    from lifelong.train.importing import import_model

    found = import_model(path, out).to_dict()
    notes = found.pop("notes")  # said on the way
    emit({**found, "notes": notes} if as_json else found, as_json=as_json)
