"""The bidirectional model: hidden states of every token, and what stands behind a mask token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.model.transformer import Transformer
from lifelong.settings.load import validate
from lifelong.settings.model import ModelConfig


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


def build_model(config: ModelConfig) -> Transformer:
    """Return a new model of a shape: an `EncoderOnlyModel` where it is bidirectional."""
    return Transformer(config) if config.causal else EncoderOnlyModel(config)
