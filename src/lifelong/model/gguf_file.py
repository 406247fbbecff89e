"""GGUF files, llama.cpp's: read into a stock Hugging Face directory, weights dequantised to fp32."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from lifelong.errors import LifelongError
from lifelong.files import write_bytes, write_json
from lifelong.model.gguf_header import check_header
from lifelong.model.weights import WEIGHTS
from lifelong.tokens.gguf_words import gguf_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

# Names of a GGUF file (the `gguf` package's constants.py), and what they are called in a stock checkpoint.
LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GPT2_NAMES = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "ln_1",
    "ffn_norm": "ln_2",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.(weight|bias)")


def gguf_to_directory(path: Path, out: Path) -> list[str]:
    """Write the model of a GGUF file as a stock directory: configuration, weights, tokenizer; returns remarks.

    Families: llama, qwen2, qwen3, gpt2. Quantised weights become fp32: their values, not their size, stay.

    Raises:
        LifelongError: the file is no GGUF file or damaged, of another family, or says something that is not read here.
    """
    try:
        return _to_directory(path, out)
    except LifelongError:
        raise
    except Exception as error:  # what a file says may contradict itself in more ways than can be asked for
        reason = str(error) or type(error).__name__
        raise LifelongError(
            f"the file contradicts itself: {reason[:300]}", where=str(path), fix="Get the file again."
        ) from None


def _to_directory(path: Path, out: Path) -> list[str]:
    fields, tensors = _read(path)
    kind = fields.get("general.architecture")
    if kind not in _CLASSES:
        raise LifelongError(
            f"the model is of the family '{kind}', not one of {', '.join(_CLASSES)}",
            where=str(path),
            fix="Get it as a Hugging Face directory instead.",
        )
    data, words = gguf_tokenizer(fields, where=str(path))
    state, kinds = {}, set()
    for tensor in tensors:
        name = _name(tensor.name, kind, path)
        value = _dequantised(tensor, path)
        kinds.add(tensor.tensor_type.name)
        if kind == "gpt2" and value.ndim == 2 and tensor.name.startswith("blk."):
            value = value.T.contiguous()  # GPT-2's layers keep (inputs, outputs)
        state[name] = value
    config = _config(fields, kind, state, path)
    blocks = {int(block[1]) for tensor in tensors if (block := _BLOCK.fullmatch(tensor.name))}
    layers = config["n_layer" if kind == "gpt2" else "num_hidden_layers"]
    if blocks != set(range(layers)):
        raise LifelongError(
            f"the file says {layers} layers, and has the weights of {len(blocks)}",
            where=str(path),
            fix="Get the file again.",
        )
    if kind == "llama":
        for name in state:
            heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
            if heads:
                state[name] = _unpermuted(state[name], config[heads])
    output, table = state.get("lm_head.weight"), state[_embedding(kind)]
    if output is not None and torch.equal(output, table):
        del state["lm_head.weight"]
    config["tie_word_embeddings"] = "lm_head.weight" not in state
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", config)
    save_file(state, out / WEIGHTS, metadata={"format": "pt"})
    write_bytes(out / "tokenizer.json", data)
    write_json(out / "tokenizer_config.json", words)
    rounded = sorted(kinds - {"F32"})
    return [f"the weights, {', '.join(rounded)} in the file, are fp32 now"] if rounded else []


def _embedding(kind: str) -> str:
    return f"{(GPT2_NAMES if kind == 'gpt2' else LLAMA_NAMES)['token_embd']}.weight"


def _read(path: Path) -> tuple[dict[str, Any], list[Any]]:
    import gguf

    check_header(path)
    try:
        reader = gguf.GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items()}, list(reader.tensors)
    except Exception as error:  # the reader trusts the file, and fails wherever it is damaged
        reason = str(error) or type(error).__name__
        raise LifelongError(
            f"this cannot be read as a GGUF file: {reason}", where=str(path), fix="Get the file again."
        ) from None


def _name(name: str, kind: str, path: Path) -> str:
    names, blocks = (GPT2_NAMES, "transformer.h") if kind == "gpt2" else (LLAMA_NAMES, "model.layers")
    if (block := _BLOCK.fullmatch(name)) and block[2] in names:
        return f"{blocks}.{block[1]}.{names[block[2]]}.{block[3]}"
    stem, _, end = name.rpartition(".")
    if stem in names and end in ("weight", "bias"):
        return f"{names[stem]}.{end}"
    what = "its positions are scaled" if name.startswith("rope_") else "it is of another build"
    raise LifelongError(
        f"tensor {name} has no place in a plain {kind} model: {what}",
        where=str(path),
        fix="Get the model as a Hugging Face directory instead.",
    )


def _dequantised(tensor: Any, path: Path) -> Tensor:
    from gguf.quants import dequantize

    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
        raise LifelongError(
            f"tensor {tensor.name} is quantised as {tensor.tensor_type.name}, which is not read here",
            where=str(path),
            fix="Get the file as F16, Q8_0 or Q4_K_M.",
        ) from None
    shape = [int(size) for size in reversed(tensor.shape)]
    # The file is mapped into memory and its pages are read-only: what is kept is a copy.
    return torch.from_numpy(values.reshape(shape).astype("float32", copy=True))


def _unpermuted(rows: Tensor, heads: int) -> Tensor:
    """Undo the order of rows that llama.cpp's converter gives queries and keys: rotary pairs neighbours there."""
    size = rows.shape[0] // heads // 2
    return rows.view(heads, size, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape).contiguous()


def _config(fields: dict[str, Any], kind: str, state: dict[str, Tensor], path: Path) -> dict[str, Any]:
    def get(key: str, default: Any = None) -> Any:
        value = fields.get(f"{kind}.{key}", default)
        if value is None:
            raise LifelongError(f"key {kind}.{key} is missing", where=str(path), fix="Get the file again.")
        return value

    if (scaling := fields.get(f"{kind}.rope.scaling.type", "none")) != "none":
        raise LifelongError(
            f"its positions are scaled ({scaling}), which is not read from GGUF",
            where=str(path),
            fix="Get the model as a Hugging Face directory instead.",
        )
    rows, width = state[_embedding(kind)].shape if _embedding(kind) in state else (0, 0)
    if not rows:
        raise LifelongError("tensor token_embd.weight is missing", where=str(path), fix="Get the file again.")
    heads = int(get("attention.head_count"))
    common = {"architectures": [_CLASSES[kind]], "model_type": kind, "vocab_size": rows, "torch_dtype": "float32"}
    if kind == "gpt2":
        return {
            **common,
            "n_embd": width,
            "n_layer": int(get("block_count")),
            "n_head": heads,
            "n_positions": int(get("context_length")),
            "n_inner": int(get("feed_forward_length")),
            "layer_norm_epsilon": float(get("attention.layer_norm_epsilon")),
        }
    theta = float(get("rope.freq_base", 10000.0))
    return {
        **common,
        "hidden_size": width,
        "num_hidden_layers": int(get("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(get("attention.head_count_kv", heads)),
        "head_dim": int(get("attention.key_length", get("rope.dimension_count", width // heads))),
        "intermediate_size": int(get("feed_forward_length")),
        "max_position_embeddings": int(get("context_length")),
        "rms_norm_eps": float(get("attention.layer_norm_rms_epsilon")),
        "rope_theta": theta,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "hidden_act": "silu",
        "attention_bias": False,
    }
