"""Cross-entropy of a linear output layer, a slice of tokens at a time: the (tokens x vocabulary) logits never exist."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# 2 Mi logits of fp32 are 8 MiB: they stay in a CPU's last-level cache between the passes over them.
_SLICE_ELEMENTS_CPU = 1 << 21
_SLICE_ELEMENTS_GPU = 1 << 26


def _slices(tokens: int, vocabulary: int, device: torch.device) -> list[slice]:
    elements = _SLICE_ELEMENTS_CPU if device.type == "cpu" else _SLICE_ELEMENTS_GPU
    step = max(1, elements // vocabulary)
    return [slice(start, min(start + step, tokens)) for start in range(0, tokens, step)]


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradient during the forward pass, while a slice's probabilities are at hand.

    The idea is that of Liger-Kernel's fused linear cross-entropy (arXiv:2410.10989): the loss is a scalar, so its
    gradient is known up to one factor, and the backward pass only multiplies by it.
    """

    @staticmethod
    def forward(
        ctx: Any, states_NC: Tensor, weight_VC: Tensor, labels_N: Tensor, weights_N: Tensor | None, compute: torch.dtype
    ) -> Tensor:
        matrix = weight_VC.to(compute)
        total = torch.zeros((), device=states_NC.device, dtype=torch.float32)
        grad_states = torch.empty_like(states_NC)
        # With a frozen output layer (a lesson in adapter mode) a third of the work falls away.
        grad_weight = torch.zeros_like(weight_VC) if ctx.needs_input_grad[1] else None
        for piece in _slices(len(states_NC), len(weight_VC), states_NC.device):
            states, labels = states_NC[piece].to(compute), labels_N[piece].unsqueeze(1)
            scores = (states @ matrix.T).float()
            scores -= scores.amax(1, keepdim=True)
            chosen = scores.gather(1, labels)
            sums = scores.exp_().sum(1, keepdim=True)
            losses = (sums.log() - chosen).squeeze(1)
            # From here `scores` holds the gradient of the loss: probabilities minus one at the label.
            scores /= sums
            scores.scatter_add_(1, labels, torch.full_like(chosen, -1.0))
            if weights_N is not None:
                losses = losses * weights_N[piece]
                scores *= weights_N[piece].unsqueeze(1)
            total += losses.sum()
            grads = scores.to(compute)
            grad_states[piece] = (grads @ matrix).to(grad_states.dtype)
            if grad_weight is not None:
                grad_weight.addmm_(grads.T.to(grad_weight.dtype), states.to(grad_weight.dtype))
        ctx.save_for_backward(grad_states, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_weight = ctx.saved_tensors
        factor = grads[0]
        weight = None if grad_weight is None else grad_weight * factor
        return grad_states * factor.to(grad_states.dtype), weight, None, None, None


def _compute_dtype(states: Tensor) -> torch.dtype:
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def linear_cross_entropy(
    states_NC: Tensor, weight_VC: Tensor, labels_N: Tensor, weights_N: Tensor | None = None
) -> Tensor:
    """Return the summed cross-entropy (nats, fp32) of ``softmax(states @ weight.T)``; labels of -100 do not count."""
    kept = labels_N != -100
    if not kept.all():  # in chat tuning most tokens are not trained on: their logits are never computed
        states_NC, labels_N = states_NC[kept], labels_N[kept]
        weights_N = None if weights_N is None else weights_N[kept]
    compute = _compute_dtype(states_NC)
    total: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_NC, weight_VC, labels_N, weights_N, compute
    )
    return total


@torch.no_grad()
def token_cross_entropy(states_NC: Tensor, weight_VC: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return each token's cross-entropy (nats, fp32, 0 where the label is -100) and whether it was the likeliest."""
    compute = _compute_dtype(states_NC)
    matrix = weight_VC.to(compute)
    losses = torch.zeros(len(labels_N), device=labels_N.device)
    correct = torch.zeros(len(labels_N), device=labels_N.device, dtype=torch.bool)
    kept = (labels_N != -100).nonzero().squeeze(1)
    for piece in _slices(len(kept), len(weight_VC), states_NC.device):
        rows = kept[piece]
        scores = (states_NC[rows].to(compute) @ matrix.T).float()
        chosen = scores.gather(1, labels_N[rows].unsqueeze(1)).squeeze(1)
        losses[rows] = torch.logsumexp(scores, 1) - chosen
        correct[rows] = chosen >= scores.amax(1)
    return losses, correct


@torch.no_grad()
def sample_labels(states_NC: Tensor, weight_VC: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one label (N,) per token from the model's own distribution ``softmax(states @ weight.T)``."""
    drawn = []
    for piece in _slices(len(states_NC), len(weight_VC), states_NC.device):
        probabilities = torch.softmax((states_NC[piece] @ weight_VC.to(states_NC.dtype).T).float(), dim=1)
        drawn.append(torch.multinomial(probabilities, 1, generator=generator).squeeze(1))
    return torch.cat(drawn)
