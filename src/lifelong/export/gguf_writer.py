"""GGUF files: weights, vocabulary and shape as llama.cpp reads them; adapters as its LoRA files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.export.gguf_words import add_words
from lifelong.model.adapters import LowRank, adapted_layers
from lifelong.model.directory import model_weights
from lifelong.model.foreign import ForeignConfig
from lifelong.model.gguf_file import GPT2_NAMES, LLAMA_NAMES
from lifelong.model.huggingface import family
from lifelong.settings.model import ModelConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer

_TYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
_BLOCK = re.compile(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.+)\.(weight|bias)")
_TABLES = ("token_embd.weight", "output.weight", "position_embd.weight")
GGUF = "model.gguf"


def architecture(model: LanguageModel, where: str) -> str:
    """Return llama.cpp's name of the model's family.

    Raises:
        LifelongError: it is none of those written here.
    """
    config = model.config
    if isinstance(config, ModelConfig) and config.causal:
        return family(config)
    if isinstance(config, ForeignConfig) and config.raw.get("model_type") == "gpt2":
        raw = config.raw
        odd = [key for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention") if raw.get(key)]
        if raw.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
            odd.append(f"activation_function = {raw['activation_function']}")
        if not odd:
            return "gpt2"
        raise LifelongError(f"llama.cpp's GPT-2 computes no {odd[0]}", where=where, fix="Export to huggingface.")
    kind = config.raw.get("model_type") if isinstance(config, ForeignConfig) else "eurobert"
    raise LifelongError(
        f"GGUF files are written here of llama, qwen3 and gpt2 models; this one is of the family '{kind}'",
        where=where,
        fix="Export to onnx or huggingface.",
    )


def write_gguf(
    model: LanguageModel, tokenizer: Tokenizer, path: Path, precision: str, *, name: str, where: str
) -> list[str]:
    """Write a model without adapters as one file; returns remarks.

    Args:
        model: llama, qwen3 or gpt2.
        tokenizer: the model's.
        path: the file.
        precision: fp32, fp16, bf16, q8_0 or q4_0. Vectors stay fp32 whatever it is, and with q4_0 the embedding and
            the output layer are q8_0: a small model has most of its weights and all of its words there.
        name: shown by programs that read it.
        where: the model, for messages.

    Raises:
        LifelongError: another family, or a tokenizer that llama.cpp cannot follow.
    """
    import gguf

    kind = architecture(model, where)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_name(name)
    _add_shape(writer, model.config)
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if precision == 'fp32' else 'MOSTLY'}_{_TYPES[precision]}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_words(writer, tokenizer, model.config.vocab_size, where=where)
    odd = []
    for name, values in gguf_tensors(model, kind):
        wanted = stored_type(name, values.shape, precision)
        if wanted != _TYPES[precision] and values.ndim == 2 and wanted == "F16":
            odd.append(name)
        add_tensor(writer, name, values, wanted)
    _finish(writer)
    size = f"{odd[0]} and {len(odd) - 1} more" if len(odd) > 1 else "".join(odd)
    return [f"{size}: rows are no multiple of 32, so they are F16, not {_TYPES[precision]}"] if odd else []


def stored_type(name: str, shape: tuple[int, ...], precision: str) -> str:
    """Return the type in which a tensor of llama.cpp's name is stored."""
    wanted = _TYPES[precision]
    if len(shape) < 2 or name == "position_embd.weight":
        return "F32"  # llama.cpp adds and multiplies these in fp32 only
    if wanted in ("Q8_0", "Q4_0") and shape[-1] % 32:
        return "F16"
    return "Q8_0" if wanted == "Q4_0" and name in _TABLES else wanted


def add_tensor(writer: Any, name: str, values: np.ndarray[Any, Any], kind: str) -> None:
    """Add one tensor, rounded to a type."""
    import gguf
    import numpy as np

    if kind == "F32":
        writer.add_tensor(name, values)
    elif kind == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        found = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(values, found), raw_dtype=found)


def gguf_tensors(model: LanguageModel, kind: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield llama.cpp's name and values (fp32) of every weight of a model."""
    heads = _heads(model.config)
    for name, tensor in model_weights(model).items():
        short = gguf_name(name, kind)
        if kind == "gpt2" and tensor.ndim == 2 and short.startswith("blk."):
            tensor = tensor.T  # GPT-2's layers keep (inputs, outputs)
        if kind == "llama" and (count := heads.get(name.split(".")[-2])):
            tensor = permuted(tensor, count)
        yield short, tensor.float().contiguous().numpy()


def permuted(rows: Tensor, heads: int) -> Tensor:
    """Order the rows of llama's queries and keys so that rotary positions turn neighbours, as llama.cpp does.

    Ours and transformers' turn element i with element i + half of each head,
    in convert_hf_to_gguf.py LlamaModel.permute.
    """
    half = rows.shape[0] // heads // 2
    return rows.view(heads, 2, half, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def gguf_name(name: str, kind: str) -> str:
    """Return llama.cpp's name of a weight of a stock checkpoint."""
    table = {theirs: short for short, theirs in (GPT2_NAMES if kind == "gpt2" else LLAMA_NAMES).items()}
    if block := _BLOCK.fullmatch(name):
        return f"blk.{block[1]}.{table[block[2]]}.{block[3]}"
    stem, _, end = name.rpartition(".")
    return f"{table[stem]}.{end}"


def write_lora(model: LanguageModel, path: Path, *, name: str, where: str) -> None:
    """Write the adapter that is attached to a model as a LoRA file of llama.cpp's, in fp32."""
    import gguf

    kind = architecture(model, where)
    heads = _heads(model.config) if kind == "llama" else {}
    writer = gguf.GGUFWriter(path, kind)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_name(name)
    scales = {layer.adapter.scale for _, layer in adapted_layers(model) if isinstance(layer.adapter, LowRank)}
    ranks = {layer.adapter.lora_A.shape[0] for _, layer in adapted_layers(model) if isinstance(layer.adapter, LowRank)}
    assert len(scales) == len(ranks) == 1  # an adapter has one of each
    writer.add_float32("adapter.lora.alpha", scales.pop() * ranks.pop())
    for layer_name, layer in adapted_layers(model):
        if isinstance(layer.adapter, LowRank):
            short = gguf_name(f"{layer_name}.weight", kind)
            first, second = layer.adapter.lora_A.detach().cpu(), layer.adapter.lora_B.detach().cpu()
            if count := heads.get(layer_name.split(".")[-1]):
                second = permuted(second, count)
            writer.add_tensor(f"{short}.lora_a", first.contiguous().numpy())
            writer.add_tensor(f"{short}.lora_b", second.contiguous().numpy())
    _finish(writer)


def _heads(config: Any) -> dict[str, int]:
    if not isinstance(config, ModelConfig):
        return {}
    return {"q_proj": config.num_query_heads, "k_proj": config.num_kv_heads}


def _add_shape(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_seq_len)
    writer.add_vocab_size(config.vocab_size)
    if isinstance(config, ModelConfig):
        writer.add_embedding_length(config.d_model)
        writer.add_block_count(config.num_layers)
        writer.add_feed_forward_length(config.d_ff)
        writer.add_head_count(config.num_query_heads)
        writer.add_head_count_kv(config.num_kv_heads)
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_layer_norm_rms_eps(config.norm_eps)
        return
    raw = config.raw
    writer.add_embedding_length(raw["n_embd"])
    writer.add_block_count(raw["n_layer"])
    writer.add_feed_forward_length(raw.get("n_inner") or 4 * raw["n_embd"])
    writer.add_head_count(raw["n_head"])
    writer.add_layer_norm_eps(raw.get("layer_norm_epsilon", 1e-5))


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
