"""What a ``config.json`` of other makers may say: nothing that makes a library act, and no sizes that are not true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import read_json
from lifelong.model.weights import TORCH_WEIGHTS, WEIGHTS, open_weights

# Keys that let transformers choose code by name, also code that it would fetch. (``auto_map`` is refused, not left out:
# such a model cannot be computed without its code.)
_ACTING = (
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset"),
    *("experts_implementation", "_experts_implementation", "custom_pipelines", "trust_remote_code", "use_kernels"),
)
# What our own transformer reads, or what the families' files say beside it without any effect here.
_OURS = {
    *("architectures", "attention_bias", "attention_dropout", "bos_token_id", "chunk_size_feed_forward", "dropout"),
    *("classifier_pooling", "dtype", "eos_token_id", "head_dim", "hidden_act", "hidden_dropout", "hidden_size"),
    *("id2label", "initializer_range", "intermediate_size", "is_encoder_decoder", "is_llama_config", "label2id"),
    *("layer_types", "mask_token_id", "max_position_embeddings", "max_window_layers", "mlp_bias", "model_type"),
    *("num_attention_heads", "num_hidden_layers", "num_key_value_heads", "pad_token_id", "pretraining_tp"),
    *("rms_norm_eps", "rope_interleaved", "rope_parameters", "rope_scaling", "rope_theta", "sliding_window"),
    *("tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "use_sliding_window", "vocab_size"),
    *("_name_or_path", "output_attentions", "output_hidden_states", "problem_type", "return_dict", "unk_token_id"),
    *("transformers.js_config", "quantization_config"),
}
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers", "n_layers", "decoder_layers")
_MANY = 200  # layers of which nobody doubts the number


def read_raw(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a ``config.json`` without the keys that could make a library act; returns remarks, too.

    Raises:
        LifelongError: it is no JSON object, or says sizes that the weights beside it do not have.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise LifelongError("not a JSON object", where=str(path))
    notes = [f"{key} = {raw[key]!r} in config.json is left out: it would choose code" for key in _ACTING if key in raw]
    raw = {key: value for key, value in raw.items() if key not in _ACTING}
    for key in _LAYERS:
        layers = raw.get(key)
        if isinstance(layers, int) and layers > _MANY and layers > _tensors(path.parent):
            raise LifelongError(
                f"{layers:,} layers, of which the file of weights does not have as many", where=str(path)
            )
    return raw, notes


def unknown_keys(raw: dict[str, Any]) -> list[str]:
    """Return a remark on what stands in the configuration of one of our families and is used by nothing here."""
    unknown = sorted(set(raw) - _OURS)
    return [f"used by nothing here, and left out: {', '.join(unknown)} in config.json"] if unknown else []


def check_size(parameters: int, place: Path, where: str) -> None:
    """Raise LifelongError where a configuration describes more weights than the file beside it has bytes.

    To be called before the memory for them is taken.
    """
    sizes = [(place / name).stat().st_size for name in (WEIGHTS, TORCH_WEIGHTS) if (place / name).is_file()]
    if sizes and parameters > max(sizes):
        with open_weights(place):
            pass  # a file that is refused for what it is, is told so first
        raise LifelongError(
            f"a model of {parameters:,} weights, and a file of weights of {max(sizes):,} bytes",
            where=where,
            fix="Get configuration and weights of the same model.",
        )


def _tensors(place: Path) -> int:
    with open_weights(place) as file:
        return len(file.names)
