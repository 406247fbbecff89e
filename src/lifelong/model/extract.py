"""Taking a model out of wherever it was trained: to use it, or to hand it on."""

from __future__ import annotations

from pathlib import Path

from lifelong.device import pick_device
from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, claim_output
from lifelong.model.adapters import merge_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, load_model, model_card, write_model_files
from lifelong.model.store import ModelStore
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer

_KIND = "inference model"


def load_model_and_tokenizer(
    model_path: str | Path, tokenizer_path: str | Path | None = None, device: str | None = None
) -> tuple[LanguageModel, Tokenizer]:
    """Load a model of any of the three kinds and its tokenizer, ready to answer.

    Args:
        model_path: a model directory, a run, a checkpoint, or what a `Trainer` wrote into.
        tokenizer_path: a tokenizer to check the model's own against; it is not needed.
        device: auto, cpu, cuda, mps.

    Raises:
        LifelongError: there is no model, files are damaged, or the tokenizer is another than the model's.
    """
    model, tokenizer = load_model(model_path, device=device)
    if tokenizer_path is not None and load_tokenizer(tokenizer_path).fingerprint != tokenizer.fingerprint:
        raise LifelongError(
            f"the tokenizer is not the one of the model in {model_path}",
            where=str(tokenizer_path),
            fix="Leave tokenizer_path out: the model has its own beside it.",
        )
    return model, tokenizer


def extract_model_for_inference(
    model_path: str | Path, output_path: str | Path, device: str = "cpu", adapter: str | None = None
) -> str:
    """Write a model without its memory and history: configuration, weights, tokenizer, a card; return the path.

    What an adapter learned is merged into the weights: the one named, or the only one there is. The directory opens
    with transformers, and with everything here that reads a model.

    Args:
        model_path: a model directory, a run, a checkpoint, or what a `Trainer` wrote into.
        output_path: the directory to write; an earlier extraction there is replaced, nothing else is.
        device: where the adapter is merged.
        adapter: the one to merge; ``"base"`` for none.

    Raises:
        LifelongError: there is no model, it has several adapters and none is named, or ``output_path`` holds something
            else.
    """
    out = Path(output_path)
    claim_output(out, _KIND)
    place = find_model(Path(model_path))
    names = ModelStore.open(place).adapters()
    if adapter is None and len(names) > 1:
        raise LifelongError(
            f"the model has {len(names)} adapters, which cannot be merged as they are: {', '.join(names)}",
            where=str(place),
            fix="Fold them into the weights first (lifelong consolidate MODEL), or name one (adapter=NAME).",
        )
    chosen = adapter or (names[0] if names else None)
    model, tokenizer = load_model(place, device=pick_device(device), adapter=chosen)
    merged = merge_adapter(model)
    facts = {"parameters": f"{model.config.parameters:,}", **({"adapter": "merged into the weights"} if merged else {})}
    with atomic_directory(out, _KIND) as staged:
        write_model_files(model, tokenizer, staged)
        (staged / "README.md").write_text(model_card(out.name, facts), encoding="utf-8")
    return str(out)
