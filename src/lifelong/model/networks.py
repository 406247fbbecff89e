"""Networks of `transformers`: made from a ``config.json``, and filled with the weights of a directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lifelong.errors import LifelongError
from lifelong.model.config_keys import check_size
from lifelong.model.foreign import ForeignModel
from lifelong.model.weights import open_weights


def new_foreign(raw: dict[str, Any], *, where: str = "config.json") -> Any:
    """Return transformers' network for a ``config.json``, with weights of no meaning.

    Raises:
        LifelongError: it needs code of its own, is quantised, or is no causal language model that transformers knows.
    """
    import transformers

    kind = raw.get("model_type")
    if raw.get("quantization_config"):
        raise LifelongError(
            "the weights are quantised, and cannot be trained", where=where, fix="Get the model as it was before."
        )
    with quiet():
        try:
            own = {key: value for key, value in raw.items() if key != "model_type"}
            config = transformers.AutoConfig.for_model(str(kind), **own)
            if config.is_encoder_decoder:
                raise LifelongError(f"'{kind}' is an encoder-decoder model, not a causal one", where=where)
            with torch.device("meta"):
                network = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        except LifelongError:
            raise
        except Exception as error:  # transformers raises whatever its many layers raise
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise LifelongError(
                f"model type '{kind}' is no causal language model that can be read here: {reason}",
                where=where,
                fix="Choose another base, such as gpt2, or train a new model: leave --base out.",
            ) from None
    return network


def load_foreign(place: Path, raw: dict[str, Any]) -> tuple[ForeignModel, list[str]]:
    """Load the model in a directory; returns it, and what of its file was not used.

    Raises:
        LifelongError: as `new_foreign`; or weights are missing, damaged or of another shape.
    """
    network, notes = load_network(place, new_foreign(raw, where=str(place / "config.json")))
    return ForeignModel(network, raw), notes


def load_network(place: Path, empty: Any) -> tuple[Any, list[str]]:
    """Return a network like ``empty`` with the weights in a directory, and what of their file was not used.

    Raises:
        LifelongError: weights are missing, damaged or of another shape.
    """
    check_size(sum(parameter.numel() for parameter in empty.parameters()), place, str(place / "config.json"))
    with open_weights(place) as file, quiet():
        state = {name: file.tensor(name).float() for name in sorted(file.names)}
        try:
            network, report = type(empty).from_pretrained(
                None,
                config=empty.config,
                state_dict=state,
                output_loading_info=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise LifelongError(f"the weights do not fit the model: {reason}", where=file.where) from None
        if wrong := sorted(str(item[0]) for item in report["mismatched_keys"]):
            raise LifelongError(f"weight {wrong[0]} has another shape than config.json says", where=file.where)
        if missing := sorted(report["missing_keys"]):
            raise LifelongError(f"weight {missing[0]} is missing ({len(missing)} in all)", where=file.where)
    extra = sorted(report["unexpected_keys"])
    notes = [f"{len(extra)} tensors of the file have no place in the model, first {extra[0]}"] if extra else []
    return network, notes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' remarks and progress bars off the screen."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
