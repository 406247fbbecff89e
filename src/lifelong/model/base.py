"""What the rooms above need of a model, whoever wrote its layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from lifelong.model.cross_entropy import linear_cross_entropy, sample_labels, token_cross_entropy
from lifelong.model.decoding import Decoder


class Shape(Protocol):
    """What is asked of any model's configuration; see `ModelConfig` and `ForeignConfig`."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        ...

    @property
    def dropout(self) -> float:
        """The share of activations left out while training, where it is ours to say."""
        ...

    @property
    def max_seq_len(self) -> int:
        """The most tokens that it reads."""
        ...

    @property
    def causal(self) -> bool:
        """Whether a token sees only what precedes it."""
        ...

    @property
    def mask_token_id(self) -> int | None:
        """The token that stands for a hidden one, of bidirectional models."""
        ...

    @property
    def parameters(self) -> int:
        """All weights."""
        ...

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations to train on one token."""
        ...

    def require_causal(self, doing: str) -> None:
        """Raise LifelongError where the model reads in both directions, and so cannot do what ``doing`` names."""
        ...


class LanguageModel(nn.Module, ABC):
    """A model that reads token ids; its state dict has the names of a stock checkpoint.

    `Transformer` is written here; `ForeignModel` runs a causal model of `transformers`. ``experts`` are the adapters
    that stand beside it (see `lifelong.model.experts`); none of them computes unless it is put into the layers.
    ``origin`` is the directory that `load_model` read, where its tokenizer lies; None for one made here.
    """

    config: Shape
    experts: nn.Module | None
    origin: Path | None = None

    def __init__(self) -> None:
        super().__init__()
        self.experts = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """The output layer's matrix (V, C): logits are ``hidden @ output_weight.T``."""

    @property
    def plain_logits(self) -> bool:
        """Whether logits are exactly ``hidden @ output_weight.T``, with no scale, bias or cap."""
        return True

    @property
    @abstractmethod
    def tied_names(self) -> frozenset[str]:
        """Names in the state dict that are other names' tensors, and are not written."""

    def set_dropout(self, share: float) -> None:
        """Leave out another share of the activations while training."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = share

    @abstractmethod
    def hidden(self, input_ids: Tensor, *, segment_ids: Tensor | None = None) -> Tensor:
        """Return the final normed states (B, T, C) of token ids (B, T).

        ``segment_ids`` (B, T) keep packed examples apart: a token attends within its own segment only.
        """

    @abstractmethod
    def new_decoder(self, rows: int, length: int, experts: int = 1) -> Decoder:
        """Return what reads ``rows`` texts of at most ``length`` tokens side by side, one token after another.

        ``experts`` is how many compute at once; see `lifelong.model.experts.all_experts`.
        """

    def loss_sum(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the summed cross-entropy in nats over labels (B, T) that are not -100, for training.

        The logits are never held all at once. ``weights`` (B, T) scale each token's loss.
        """
        states = self.hidden(input_ids, segment_ids=segment_ids)
        return linear_cross_entropy(
            states.flatten(0, 1),
            self.output_weight,
            labels.flatten(),
            None if weights is None else weights.flatten(),
        )

    @torch.no_grad()
    def token_losses(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return each label's cross-entropy (B, T) in nats, 0 where it is -100, and whether it was the likeliest."""
        states = self.hidden(input_ids, segment_ids=segment_ids)
        losses, correct = token_cross_entropy(states.flatten(0, 1), self.output_weight, labels.flatten())
        return losses.view_as(labels), correct.view_as(labels)

    @torch.no_grad()
    def sample_labels(
        self, input_ids: Tensor, *, segment_ids: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw a label (B, T) for every position from the model's own distribution of the next token."""
        states = self.hidden(input_ids, segment_ids=segment_ids)
        return sample_labels(states.flatten(0, 1), self.output_weight, generator).view_as(input_ids)
