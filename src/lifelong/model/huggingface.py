"""Our configuration as Hugging Face's `config.json`, and back."""

from __future__ import annotations

from typing import Any

from lifelong.errors import LifelongError
from lifelong.settings.model import ModelConfig

_ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "eurobert": "EuroBertForMaskedLM"}


def family(config: ModelConfig) -> str:
    """Return the Hugging Face ``model_type`` whose class computes exactly this model."""
    if not config.causal:
        return "eurobert"
    return "qwen3" if config.qk_norm else "llama"


def to_huggingface(config: ModelConfig, special_ids: dict[str, int]) -> dict[str, Any]:
    """Return the content of `config.json`.

    Both ``rope_theta`` (read by transformers 4) and ``rope_parameters`` (read by 5) are written: 4.x silently takes a
    default where the first is missing.

    Args:
        config: the shape.
        special_ids: ``bos_token_id``, ``eos_token_id``, ``pad_token_id``.
    """
    kind = family(config)
    return {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_query_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "use_cache": config.causal,
        "torch_dtype": "float32",
        **({"use_sliding_window": False, "sliding_window": None} if kind == "qwen3" else {}),
        **special_ids,
        # No key of the families': other readers pass over it, and a model trained further keeps its dropout.
        **({"dropout": config.dropout} if config.dropout else {}),
        **({} if config.mask_token_id is None else {"mask_token_id": config.mask_token_id}),
    }


def is_ours(raw: dict[str, Any]) -> bool:
    """Whether a `config.json` is of a model that our transformer computes; others are transformers' to compute."""
    kind = raw.get("model_type")
    # What EuroBERT's family can have beside, no other class here computes.
    return bool(raw.get("auto_map")) or kind == "eurobert" or (kind in _ARCHITECTURES and not _unsupported(raw))


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
    return raw.get("rope_parameters") or raw.get("rope_scaling") or {}


def _unsupported(raw: dict[str, Any]) -> list[str]:
    rope = _rope(raw)
    found = [f"{key} = {raw[key]}" for key in ("attention_bias", "mlp_bias", "use_sliding_window") if raw.get(key)]
    if (kind := rope.get("rope_type") or rope.get("type") or "default") != "default":
        found.append(f"rope_type = {kind}")
    if raw.get("hidden_act", "silu") != "silu":
        found.append(f"hidden_act = {raw['hidden_act']}")
    return found


def from_huggingface(raw: dict[str, Any], *, where: str = "config.json") -> ModelConfig:
    """Read a Llama, Qwen3 or EuroBERT `config.json`.

    Raises:
        LifelongError: another family, or a feature that this transformer does not compute.
    """
    kind = raw.get("model_type")
    if raw.get("auto_map"):
        raise LifelongError(
            f"this model needs code of its own (auto_map: {', '.join(sorted(raw['auto_map']))}), which is never run",
            where=where,
            fix="Choose a model without such code: any causal one of transformers' own families, EuroBERT or T5.",
        )
    if kind not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise LifelongError(
            f"model type '{kind}' is not one of {known}",
            where=where,
            fix="Choose a base of one of these families, or train a new model: leave --base out.",
        )
    rope = _rope(raw)
    if unsupported := _unsupported(raw):
        raise LifelongError(f"not supported: {', '.join(unsupported)}", where=where)
    # transformers writes EuroBERT's own mask token into the configuration of models that have no such token.
    mask = raw.get("mask_token_id") if kind == "eurobert" else None
    try:
        return ModelConfig(
            vocab_size=raw["vocab_size"],
            d_model=raw["hidden_size"],
            num_layers=raw["num_hidden_layers"],
            num_query_heads=raw["num_attention_heads"],
            num_kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
            head_dim=raw.get("head_dim") or 0,
            d_ff=raw["intermediate_size"],
            max_seq_len=raw.get("max_position_embeddings", 2048),
            rope_theta=rope.get("rope_theta") or raw.get("rope_theta") or 10000.0,
            norm_eps=raw.get("rms_norm_eps", 1e-6),
            tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
            qk_norm=kind == "qwen3",
            causal=kind != "eurobert",
            dropout=raw.get("dropout") or 0.0,
            mask_token_id=mask if mask is not None and mask < raw["vocab_size"] else None,
        )
    except KeyError as error:
        raise LifelongError(f"key {error} is missing", where=where) from None
    except LifelongError as error:
        raise LifelongError(error.what, where=where) from None
    except (TypeError, AttributeError) as error:
        raise LifelongError(f"a value of the wrong kind: {error}", where=where) from None
