"""Model directories: stock Hugging Face files at the root, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lifelong.device import pick_device
from lifelong.errors import LifelongError
from lifelong.files import sha256_bytes, write_json
from lifelong.model.adapters import load_adapter, read_adapter_config
from lifelong.model.base import LanguageModel
from lifelong.model.config_keys import check_size, read_raw, unknown_keys
from lifelong.model.encoder import build_model
from lifelong.model.experts import BASE, ROUTED, load_experts
from lifelong.model.foreign import ForeignConfig, describe
from lifelong.model.huggingface import from_huggingface, is_ours, to_huggingface
from lifelong.model.networks import load_foreign, new_foreign
from lifelong.model.seq2seq import EncoderDecoderModel, load_encoder_decoder
from lifelong.model.store import HOME, ModelStore
from lifelong.model.t5 import MODEL_TYPE, new_network
from lifelong.model.weights import TORCH_WEIGHTS, WEIGHTS, open_weights, save_tensors
from lifelong.settings.model import ModelConfig
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.spans import new_sentinels

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, GENERATION = "config.json", "generation_config.json"


def model_weights(model: LanguageModel) -> dict[str, Tensor]:
    """Return the base weights under Hugging Face's names: no adapter, and one copy of tied embeddings."""
    tied = model.tied_names
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if ".adapter." not in name and not name.startswith("experts.") and name not in tied
    }


def fingerprint(model: LanguageModel) -> str:
    """Return a SHA-256 over names, shapes and values of the base weights (64 hexadecimal digits)."""
    parts = []
    for name, tensor in sorted(model_weights(model).items()):
        data = sha256_bytes(tensor.numpy().tobytes())
        parts.append(f"{name} {tuple(tensor.shape)} {data}")
    return sha256_bytes("\n".join(parts).encode())


def write_model_files(model: LanguageModel, tokenizer: Tokenizer, out: Path) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer's files into ``out``.

    A model that writes has a `generation_config.json`, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    special = {
        "bos_token_id": tokenizer.eos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    write_json(out / CONFIG, _config_of(model, special))
    if model.config.causal:
        write_json(
            out / GENERATION,
            {
                **special,
                "eos_token_id": [tokenizer.eos_id, tokenizer.end_of_turn_id],
                "do_sample": True,
                "temperature": 0.8,
                "top_k": 50,
                "top_p": 0.9,
            },
        )
    if isinstance(model, EncoderDecoderModel):
        write_json(out / GENERATION, model.config.generation(tokenizer))
    save_tensors(model_weights(model), out / WEIGHTS, metadata={"format": "pt"})
    behind = new_sentinels(tokenizer) if isinstance(model, EncoderDecoderModel) else ()
    tokenizer.write_files(out, mask_id=model.config.mask_token_id, behind=behind)


def _config_of(model: LanguageModel, special: dict[str, int]) -> dict[str, Any]:
    config = model.config
    if isinstance(config, ForeignConfig):
        return config.to_huggingface(special)
    assert isinstance(config, ModelConfig)
    return to_huggingface(config, special)


def is_model_directory(path: Path | str) -> bool:
    """Whether ``path`` holds a configuration and weights: ours or any Hugging Face directory."""
    path = Path(path)
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in (WEIGHTS, TORCH_WEIGHTS))


def find_model(path: Path) -> Path:
    """Return the directory with weights that ``path`` stands for: a model directory, a checkpoint, or a run.

    Of a run it is the best, then the final model, then the newest checkpoint; of a `Trainer` its best.

    Raises:
        LifelongError: there is none; names the file that lacks.
    """
    if not path.exists():
        raise LifelongError("no such model directory", where=str(path), fix="`lifelong train` makes one.")
    for candidate in (
        path,
        path / "best",
        path / "best_model",
        path / "final",
        *sorted((path / "checkpoints").glob("step-*"), reverse=True),
    ):
        if is_model_directory(candidate):
            return candidate
    missing = CONFIG if not (path / CONFIG).is_file() else WEIGHTS
    raise LifelongError(
        f"not a model directory: {missing} is missing",
        where=str(path),
        fix="Name a model directory, a run in its runs/, or a checkpoint. `lifelong train --out DIR` makes a model.",
    )


def read_config(path: Path) -> ModelConfig | ForeignConfig:
    """Read the shape of the model at ``path``.

    Raises:
        LifelongError: there is no class that computes it.
    """
    where = str(path / CONFIG)
    raw, _ = read_raw(path / CONFIG)
    if raw.get("model_type") == MODEL_TYPE:
        return EncoderDecoderModel(raw, new_network(raw, where=where)).config
    return from_huggingface(raw, where=where) if is_ours(raw) else describe(new_foreign(raw, where=where), raw)


def read_model(path: Path) -> tuple[LanguageModel, list[str]]:
    """Load the weights in a directory, whoever made them, and without adapter; returns remarks on them, too.

    Raises:
        LifelongError: a file is missing or damaged, or there is no class that computes the model.
    """
    where = str(path / CONFIG)
    raw, notes = read_raw(path / CONFIG)
    if not is_ours(raw):
        model, more = (load_encoder_decoder if raw.get("model_type") == MODEL_TYPE else load_foreign)(path, raw)
        return model, notes + more
    config = from_huggingface(raw, where=where)
    check_size(config.parameters, path, where)
    own = build_model(config)
    load_weights(own, path)
    return own, notes + unknown_keys(raw)


def load_weights(model: LanguageModel, path: Path) -> None:
    """Fill a model from the weights in a directory: `model.safetensors`, or else `pytorch_model.bin`.

    Raises:
        LifelongError: the file is damaged, or a tensor is missing, left over or of another shape.
    """
    target = model.state_dict()
    expected = model_weights(model).keys()
    with open_weights(path) as file:
        found = file.names - model.tied_names
        if missing := expected - found:
            raise LifelongError(f"weight {sorted(missing)[0]} is missing ({len(missing)} in all)", where=file.where)
        if extra := found - expected:
            raise LifelongError(
                f"weight {sorted(extra)[0]} has no place in this model ({len(extra)} in all)", where=file.where
            )
        with torch.no_grad():
            for name in expected:
                shape = file.shape(name)
                if shape != tuple(target[name].shape):
                    raise LifelongError(
                        f"weight {name} has shape {shape}, {CONFIG} says {tuple(target[name].shape)}", where=file.where
                    )
                target[name].copy_(file.tensor(name))


def adapter_path(root: Path, name: str) -> Path:
    """Return where an adapter lies in a model directory."""
    return root / HOME / "adapters" / name


def check_adapter(root: Path, name: str) -> None:
    """Raise LifelongError where an adapter was made for other weights than those of the model directory it lies in."""
    path = adapter_path(root, name)
    made_for = read_adapter_config(path).base_fingerprint
    if made_for not in ("", ModelStore.open(root).state().get("base_fingerprint", made_for)):
        raise LifelongError(
            f"adapter '{name}' was made for other weights than these",
            where=str(path),
            fix="Put back the weights it was made for (lifelong rollback), or answer without it (--adapter base).",
        )


def load_model(
    path: Path | str, *, device: str | torch.device | None = None, adapter: str | None = ROUTED
) -> tuple[LanguageModel, Tokenizer]:
    """Load a model and its tokenizer, ready to answer (evaluation mode); a bidirectional one is an `EncoderOnlyModel`.

    Args:
        path: a model directory, a run, or a checkpoint.
        device: where to put it; the best device here by default.
        adapter: ``"routed"`` for all, which answer together; the name of one; None or ``"base"`` for the base alone.

    Raises:
        LifelongError: files are missing or do not fit each other.
    """
    place = find_model(Path(path))
    store = ModelStore.open(place)
    model, _ = read_model(place)
    model.origin = place
    tokenizer = load_tokenizer(place)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise LifelongError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {model.config.vocab_size}",
            where=str(place),
        )
    names = store.adapters()
    chosen = names if adapter == ROUTED else [adapter] if adapter in names else []
    for name in chosen:
        check_adapter(place, name)
    if adapter == ROUTED:
        load_experts(model, {name: adapter_path(place, name) for name in names})
    elif adapter not in (None, BASE):
        if adapter not in names:
            raise LifelongError(f"no adapter '{adapter}'; there are: {', '.join(names) or 'none'}", where=str(place))
        load_adapter(model, adapter_path(place, adapter))
    target = device if isinstance(device, torch.device) else pick_device(device)
    return model.to(target).eval(), tokenizer


def model_card(title: str, facts: dict[str, Any]) -> str:
    """Return a model card (Markdown with the hub's front matter) that says what the model is and what it was taught."""
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- lifelong",
        "- continual-learning",
        "---",
        "",
        f"# {title}",
        "",
    ]
    lines += [f"- **{key}**: {value if isinstance(value, str) else json.dumps(value)}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"
