"""Elastic weight consolidation on effective weights (Kirkpatrick et al. 2017, arXiv:1612.00796).

Near the weights θ* that a model has before a lesson, the old domain's loss rises by about ½·Σ F·(θ − θ*)² nats per
token, with F the diagonal of the Fisher information per token. The loss adds λ/1000 of that, so the customary λ of 1000
weighs one nat of predicted damage like one nat of loss on the new text. Of several old domains F is the sum, and so
is the damage (see `lifelong.learn.fisher`).

Under a low-rank adapter θ − θ* is s·B·A, less what the adapter already held: penalising A and B each for itself would
guard neither, since only their product reaches the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lifelong.model.adapters import Adaptable, LowRank, adapted_layers
from lifelong.model.base import LanguageModel
from lifelong.tokens.loader import Batch


def fisher_diagonal(
    model: LanguageModel, batches: Iterable[Batch], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Estimate the diagonal of the per-token Fisher information of every block matrix: name → (outputs, inputs).

    Labels are drawn from the model itself; with the labels of the text it would be the "empirical Fisher", another
    matrix (Kunstner et al. 2019, arXiv:1905.12558). For a batch of N tokens the squared gradient of the *summed* loss
    is divided by N: scores of different tokens have mean zero given what precedes them, so their products vanish in
    expectation, and the estimate does not depend on the batch size. Many small batches give a less noisy mean than few
    large ones of as many tokens.
    """
    layers = list(adapted_layers(model))
    total = {name: torch.zeros_like(layer.weight) for name, layer in layers}
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    was_training = model.training
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for _, layer in layers:
        layer.weight.requires_grad_(True)
    count = 0
    try:
        for batch in batches:
            batch = batch.to(model.device)
            kept = batch.labels != -100
            if not kept.any():
                continue
            with torch.no_grad():
                drawn = model.sample_labels(batch.input_ids, segment_ids=batch.segment_ids, generator=generator)
            labels = torch.where(kept, drawn, -100)
            model.loss_sum(batch.input_ids, labels, segment_ids=batch.segment_ids).backward()
            for name, layer in layers:
                if layer.weight.grad is not None:
                    total[name] += layer.weight.grad.square() / int(kept.sum())
                    layer.weight.grad = None
            count += 1
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable[name])
        model.train(was_training)
    return {name: value / max(1, count) for name, value in total.items()}


@dataclass
class ElasticPull:
    """The pull towards the weights before a lesson: a term of the loss."""

    layers: list[tuple[Adaptable, Tensor, Tensor | None]]
    strength: float

    @classmethod
    def towards_now(cls, model: LanguageModel, fisher: dict[str, Tensor], strength: float) -> ElasticPull:
        """Anchor at the model's present weights. ``strength`` is λ."""
        layers = []
        for name, layer in adapted_layers(model):
            with torch.no_grad():
                if not isinstance(layer.adapter, LowRank):
                    anchor: Tensor | None = layer.weight.detach().clone()
                else:
                    anchor = layer.adapter.delta() if layer.adapter.lora_B.any() else None
            layers.append((layer, fisher[name], anchor))
        return cls(layers, strength)

    def predicted_damage(self) -> Tensor:
        """Return ½·Σ F·(θ − θ*)²: predicted rise of the old domains' losses, added up, in nats per token (scalar)."""
        terms = []
        for layer, fisher, anchor in self.layers:
            now = layer.adapter.delta() if isinstance(layer.adapter, LowRank) else layer.weight
            change = now if anchor is None else now - anchor
            terms.append((fisher * change.square()).sum())
        return 0.5 * torch.stack(terms).sum()

    def __call__(self) -> Tensor:
        """Return the term that the loss adds: λ/1000 times the predicted damage."""
        return self.strength / 1000.0 * self.predicted_damage()
