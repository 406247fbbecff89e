"""The bidirectional model: hidden states of every token, and what stands behind a mask token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifelong.errors import LifelongError
from lifelong.model.transformer import Transformer
from lifelong.settings.load import validate
from lifelong.settings.model import ModelConfig
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.masking import find_mask


class EncoderOnlyModel(Transformer):
    """A transformer whose tokens see those on both sides; its files are those of `EuroBertForMaskedLM`.

    Args:
        config: a shape with ``causal=False``, or a mapping of the same names, where ``"model_type": "encoder_only"``
            and ``num_heads`` are understood.

    Raises:
        LifelongError: a name or a value does not fit, or the shape is a causal model's.
    """

    def __init__(self, config: ModelConfig | Mapping[str, Any]) -> None:
        if not isinstance(config, ModelConfig):
            config = validate(ModelConfig, {"model_type": "encoder_only", **config})
        if config.causal:
            raise LifelongError(
                "an encoder-only model is not causal", where="config", fix='Give "model_type": "encoder_only".'
            )
        super().__init__(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the hidden states (batch, time, d_model) of token ids (batch, time).

        Args:
            input_ids: (batch, time) token ids.
            attention_mask: (batch, time), 0 or False on padding: nothing looks there. The states of padding mean
                nothing.

        Raises:
            LifelongError: the mask has another shape, or the rows are longer than the model reads.
        """
        if input_ids.shape[-1] > self.config.max_seq_len:
            raise LifelongError(
                f"{input_ids.shape[-1]} tokens are more than the model reads: {self.config.max_seq_len}",
                where="input_ids",
            )
        if attention_mask is None:
            return self.hidden(input_ids)
        if attention_mask.shape != input_ids.shape:
            raise LifelongError(
                f"the mask has the shape {tuple(attention_mask.shape)}, the ids have {tuple(input_ids.shape)}",
                where="attention_mask",
            )
        padding = attention_mask == 0
        # Attention stays within one segment. Without padding there is no need for a mask, and the fused kernel runs.
        return self.hidden(input_ids, segment_ids=-padding.long() if bool(padding.any()) else None)

    def predict_mlm(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the logits (batch, time, vocabulary) of the token that belongs in each place; see `forward`."""
        logits: Tensor = self.lm_head(self(input_ids, attention_mask))
        return logits

    def embed(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return a vector of length 1 for each text, the mean of its hidden states, (batch, d_model) float32.

        See `forward` for the arguments.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return F.normalize(mean_state(self(input_ids, attention_mask).float(), mask), dim=-1)


def mean_state(hidden_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the mean of the states that are no padding, (batch, d_model); zero of a text that is nothing else."""
    mask_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTC.dtype)
    return (hidden_BTC * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)


def give_mask_token(model: Transformer, tokenizer: Tokenizer) -> str | None:
    """Give a bidirectional model that has no mask token one, in place.

    Its id is the tokenizer's own, or the one behind the tokenizer's last; where the embedding has no row for it, it
    gets one, the mean of the others.

    Returns:
        what was done, in a sentence; None where nothing was.

    Raises:
        LifelongError: the tokenizer has no place for a mask token, or more tokens than the model.
    """
    config = model.config
    if config.causal or config.mask_token_id is not None:
        return None
    mask = find_mask(tokenizer)
    if mask > config.vocab_size:
        raise LifelongError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}",
            fix='Make the model with "vocab_size": tokenizer.vocab_size.',
        )
    said = f"The model had no mask token: it is number {mask} now"
    if mask == config.vocab_size:
        with torch.no_grad():
            model.model.embed_tokens = nn.Embedding.from_pretrained(_with_row(model.model.embed_tokens.weight), False)
            weight = model.model.embed_tokens.weight
            model.lm_head.weight = weight if config.tie_embeddings else nn.Parameter(_with_row(model.lm_head.weight))
        model.lm_head.out_features = mask + 1
        said += ", behind the others; the embedding got a row for it"
    size = max(config.vocab_size, mask + 1)
    model.config = config.model_copy(update={"vocab_size": size, "mask_token_id": mask})
    return f"{said}."


def _with_row(table: Tensor) -> Tensor:
    return torch.cat([table, table.mean(dim=0, keepdim=True)])


def build_model(config: ModelConfig) -> Transformer:
    """Return a new model of a shape: an `EncoderOnlyModel` where it is bidirectional."""
    return Transformer(config) if config.causal else EncoderOnlyModel(config)
