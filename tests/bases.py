"""Small random models as transformers writes them, each with a tokenizer trained on the spot."""

from __future__ import annotations

import pydoc_data.topics as topics
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "opt": {**_SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt_neox": _SMALL,
    "gemma": {**_SMALL, "num_key_value_heads": 1, "head_dim": 16},
    "qwen2": {**_SMALL, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "llama": {**_SMALL, "num_key_value_heads": 1},
    "qwen3": {**_SMALL, "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
}
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_words(*special: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet)
    tokenizer.train_from_iterator([topics.topics["yield"], topics.topics["lambda"]], trainer)
    return tokenizer


def make_base(place: Path, family: str = "gpt2", *, chatml: bool = False) -> Path:
    """A small random model as transformers writes it, with a byte-level tokenizer trained on the spot."""
    words = make_words("<|endoftext|>", *(["<|im_start|>", "<|im_end|>"] if chatml else []))
    ends = {"bos_token_id": 0, "eos_token_id": 2 if chatml else 0}
    config = transformers.AutoConfig.for_model(family, vocab_size=words.get_vocab_size(), **ends, **SHAPES[family])
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(place)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>" if chatml else "<|endoftext|>"
    )
    if chatml:
        fast.chat_template = CHATML
    fast.save_pretrained(place)
    return place
