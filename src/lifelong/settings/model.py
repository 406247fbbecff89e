"""The shape of a model, and its size in closed form (no torch needed)."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from lifelong.errors import LifelongError
from lifelong.settings.base import Settings

# Names used by other guides and by Hugging Face's files, and what they are called here.
_ALIASES = {
    "num_heads": "num_query_heads",
    "num_attention_heads": "num_query_heads",
    "num_key_value_heads": "num_kv_heads",
    "hidden_size": "d_model",
    "num_hidden_layers": "num_layers",
    "intermediate_size": "d_ff",
    "max_position_embeddings": "max_seq_len",
}


class ModelConfig(Settings):
    """Shape of one transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    ``num_kv_heads`` defaults to ``num_query_heads``, ``head_dim`` to ``d_model / num_query_heads`` and ``d_ff`` to
    8/3 of ``d_model`` rounded up to a multiple of 32, ``qk_norm`` to ``causal``.
    """

    vocab_size: int = Field(gt=0)
    d_model: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    num_query_heads: int = Field(gt=0)
    num_kv_heads: int = Field(default=0, ge=0)
    head_dim: int = Field(default=0, ge=0)
    d_ff: int = Field(default=0, ge=0)
    max_seq_len: int = Field(default=1024, gt=0)
    rope_theta: float = Field(default=10000.0, gt=0)
    norm_eps: float = Field(default=1e-6, gt=0)
    tie_embeddings: bool = True
    qk_norm: bool = True
    causal: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    # The token that stands for a hidden one; bidirectional models only.
    mask_token_id: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = {_ALIASES.get(key, key): value for key, value in values.items()}
        kind = values.pop("model_type", None)
        if kind in ("transformer", "encoder_decoder"):
            raise ValueError(
                f"model_type '{kind}' is an encoder-decoder model, which EncoderDecoderModel(config) makes"
            )
        if kind is not None:
            values.setdefault("causal", kind != "encoder_only")
        values.setdefault("qk_norm", bool(values.get("causal", True)))
        d_model, heads = values.get("d_model"), values.get("num_query_heads")
        if isinstance(d_model, int) and isinstance(heads, int) and heads > 0:
            values["num_kv_heads"] = values.get("num_kv_heads") or heads
            if not values.get("head_dim"):
                if d_model % heads:
                    raise ValueError(f"d_model {d_model} is not divisible by num_query_heads {heads}; give head_dim")
                values["head_dim"] = d_model // heads
            values["d_ff"] = values.get("d_ff") or -(-8 * d_model // 3 // 32) * 32
        return values

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.num_query_heads % self.num_kv_heads:
            raise ValueError(
                f"num_query_heads {self.num_query_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even: rotary positions turn pairs of dimensions")
        if self.mask_token_id is not None:
            if self.causal:
                raise ValueError("mask_token_id is of bidirectional models only (causal: false)")
            if self.mask_token_id >= self.vocab_size:
                raise ValueError(
                    f"mask_token_id {self.mask_token_id} is beyond the vocabulary of {self.vocab_size} tokens"
                )
        if not self.causal and self.qk_norm:
            raise ValueError("a bidirectional model has no qk_norm: EuroBERT's files cannot express it")
        return self

    def require_causal(self, doing: str) -> None:
        """Raise LifelongError where the model reads in both directions, and so cannot do what ``doing`` names."""
        if not self.causal:
            raise LifelongError(
                f"a masked-language model reads in both directions: it cannot {doing}",
                fix="Use a model of --phase pretrain or sft; this one fills in hidden tokens (`lifelong evaluate`).",
            )

    @property
    def embedding_parameters(self) -> int:
        """Weights of the token embedding (and of the output layer, where it is not tied)."""
        return self.vocab_size * self.d_model * (1 if self.tie_embeddings else 2)

    @property
    def block_parameters(self) -> int:
        """Weights of all blocks and norms."""
        queries, keys = self.num_query_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.d_model * (2 * queries + 2 * keys) + (2 * self.head_dim if self.qk_norm else 0)
        per_layer = attention + 3 * self.d_model * self.d_ff + 2 * self.d_model
        return self.num_layers * per_layer + self.d_model

    @property
    def parameters(self) -> int:
        """All weights of the model."""
        return self.embedding_parameters + self.block_parameters

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations to train on one token: 6 per matrix weight, plus attention.

        Kaplan et al. 2020 (arXiv:2001.08361), section 2.1; attention is 12·layers·width·time (PaLM, appendix B),
        halved for causal models, which need only the lower triangle.
        """
        matrices = self.block_parameters + self.vocab_size * self.d_model
        width = self.num_query_heads * self.head_dim
        return 6.0 * matrices + 12.0 * self.num_layers * width * sequence_length * (0.5 if self.causal else 1.0)
