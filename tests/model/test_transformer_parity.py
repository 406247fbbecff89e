"""Our transformer against transformers' own classes: the same files, the same logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lifelong.model.directory import load_weights, model_weights, read_config
from lifelong.model.huggingface import family, to_huggingface
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig

SHAPES = {
    "qwen3": ModelConfig(vocab_size=97, d_model=48, num_layers=2, num_query_heads=4, num_kv_heads=2, head_dim=16),
    "qwen3-untied": ModelConfig(
        vocab_size=101, d_model=32, num_layers=3, num_query_heads=4, num_kv_heads=1, d_ff=80, tie_embeddings=False
    ),
    "llama": ModelConfig(vocab_size=64, d_model=32, num_layers=2, num_query_heads=2, num_kv_heads=2, qk_norm=False),
    "llama-head-dim": ModelConfig(
        vocab_size=64, d_model=48, num_layers=2, num_query_heads=6, num_kv_heads=3, head_dim=24, qk_norm=False,
        tie_embeddings=False, rope_theta=500000.0, norm_eps=1e-5,
    ),
    "eurobert": ModelConfig(vocab_size=80, d_model=32, num_layers=2, num_query_heads=4, num_kv_heads=2, causal=False),
}  # fmt: skip


def randomised(config: ModelConfig) -> Transformer:
    """A model with no zero matrices: all of it must matter to the logits."""
    torch.manual_seed(1)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1) if parameter.ndim > 1 else parameter.uniform_(0.5, 1.5)
    return model.eval()


def write(model: Transformer, out: Path) -> None:
    import json

    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    (out / "config.json").write_text(json.dumps(to_huggingface(model.config, special)))
    save_file(model_weights(model), out / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", SHAPES)
def test_a_saved_model_gives_the_same_logits_in_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    model = randomised(SHAPES[name])
    write(model, tmp_path)
    kind = AutoModelForCausalLM if model.config.causal else AutoModelForMaskedLM
    theirs, info = kind.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(theirs).__name__.lower().startswith(family(model.config))
    ids = torch.randint(0, model.config.vocab_size, (3, 19))
    with torch.no_grad():
        assert (theirs.eval()(input_ids=ids).logits - model(ids)).abs().max() < 1e-4


@pytest.mark.parametrize("family_name", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (4, 1), (6, 2)])
def test_a_random_directory_made_by_transformers_loads_here(
    family_name: str, tied: bool, heads: tuple[int, int], tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(2)
    shape = {
        "vocab_size": 90,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": 16,
        "tie_word_embeddings": tied,
        "rope_theta": 20000.0,
        "max_position_embeddings": 64,
    }
    config = LlamaConfig(**shape) if family_name == "llama" else Qwen3Config(**shape)
    theirs = (LlamaForCausalLM if family_name == "llama" else Qwen3ForCausalLM)(config).eval()
    theirs.save_pretrained(tmp_path)
    model = Transformer(read_config(tmp_path))
    load_weights(model, tmp_path)
    ids = torch.randint(0, 90, (2, 23))
    with torch.no_grad():
        assert (theirs(input_ids=ids).logits - model.eval()(ids)).abs().max() < 1e-4


def test_f06_a_model_is_built_in_python_from_a_guide_a_config() -> None:
    config = ModelConfig(vocab_size=8000, d_model=768, num_layers=12, num_query_heads=12, num_kv_heads=3)
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.parameters
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (3 * 64, 768)


def test_the_loss_is_that_of_the_logits_and_so_are_its_gradients() -> None:
    model = randomised(SHAPES["qwen3"]).train()
    ids = torch.randint(0, 97, (4, 33))
    labels = torch.randint(0, 97, (4, 33))
    labels[torch.rand(labels.shape) < 0.3] = -100
    weights = torch.rand(4, 33)
    model.loss_sum(ids, labels, weights=weights).backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    losses = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), labels.flatten(), reduction="none")
    (losses * weights.flatten()).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-4)


def test_packed_segments_do_not_see_each_other() -> None:
    model = randomised(SHAPES["qwen3"])
    first, second = torch.randint(0, 97, (1, 7)), torch.randint(0, 97, (1, 9))
    segments = torch.tensor([[0] * 7 + [1] * 9 + [-1] * 2])
    packed = torch.cat((first, second, torch.zeros(1, 2, dtype=torch.long)), dim=1)
    with torch.no_grad():
        together = model(packed, segment_ids=segments)
        torch.testing.assert_close(together[:, :7], model(first), rtol=1e-4, atol=1e-5)
        # Rotary positions are relative, so a segment that starts later gives the same logits.
        torch.testing.assert_close(together[:, 7:16], model(second), rtol=1e-4, atol=1e-5)


def test_reading_through_the_cache_gives_the_logits_of_reading_at_once() -> None:
    model = randomised(SHAPES["qwen3"])
    ids = torch.randint(0, 97, (2, 12))
    with torch.no_grad():
        whole = model(ids)
        decoder = model.new_decoder(2, 12)
        parts = [decoder.read(ids[:, :5].tolist())[0], *(decoder.step(ids[:, t])[0] for t in range(5, 12))]
    torch.testing.assert_close(torch.stack(parts, dim=1), whole[:, 4:], rtol=1e-4, atol=1e-5)


def test_a_new_model_is_nearly_the_unigram_of_its_embeddings_and_its_blocks_are_the_identity() -> None:
    model = Transformer(SHAPES["llama"])
    ids = torch.randint(0, 64, (1, 8))
    with torch.no_grad():
        torch.testing.assert_close(model.hidden(ids), model.model.norm(model.model.embed_tokens(ids)))
