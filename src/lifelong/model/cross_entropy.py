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
        grad_states, grad_weight = torch.empty_like(states_NC), torch.zeros_like(weight_VC)
        for piece in _slices(len(states_NC), len(weight_VC), states_NC.device):
            states, labels = states_NC[piece].to(compute), labels_N[piece]
            kept = labels != -100
            target = labels.clamp(min=0).unsqueeze(1)
            scores = (states @ matrix.T).float()
            scores -= scores.amax(1, keepdim=True)
            chosen = scores.gather(1, target)
            scores.exp_()
            sums = scores.sum(1, keepdim=True)
            factor = kept.float() if weights_N is None else kept * weights_N[piece]
            total += ((sums.log() - chosen).squeeze(1) * factor).sum()
            # From here `scores` holds the gradient of the loss: probabilities minus one at the label.
            scores *= factor.unsqueeze(1) / sums
            scores.scatter_add_(1, target, -factor.unsqueeze(1))
            grads = scores.to(compute)
            grad_states[piece] = (grads @ matrix).to(grad_states.dtype)
            grad_weight.addmm_(grads.T.to(grad_weight.dtype), states.to(grad_weight.dtype))
        ctx.save_for_backward(grad_states, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_weight = ctx.saved_tensors
        factor = grads[0]
        return grad_states * factor.to(grad_states.dtype), grad_weight * factor, None, None, None


def _compute_dtype(states: Tensor) -> torch.dtype:
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def linear_cross_entropy(
    states_NC: Tensor, weight_VC: Tensor, labels_N: Tensor, weights_N: Tensor | None = None
) -> Tensor:
    """Return the summed cross-entropy (nats, fp32) of ``softmax(states @ weight.T)``; a label of -100 does not count."""
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
    losses, correct = [], []
    for piece in _slices(len(states_NC), len(weight_VC), states_NC.device):
        labels = labels_N[piece]
        kept = labels != -100
        scores = (states_NC[piece].to(compute) @ matrix.T).float()
        chosen = scores.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
        losses.append((torch.logsumexp(scores, 1) - chosen) * kept)
        correct.append((chosen >= scores.amax(1)) & kept)
    return torch.cat(losses), torch.cat(correct)


@torch.no_grad()
def sample_labels(states_NC: Tensor, weight_VC: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one label (N,) per token from the model's own distribution ``softmax(states @ weight.T)``."""
    drawn = []
    for piece in _slices(len(states_NC), len(weight_VC), states_NC.device):
        probabilities = torch.softmax((states_NC[piece] @ weight_VC.to(states_NC.dtype).T).float(), dim=1)
        drawn.append(torch.multinomial(probabilities, 1, generator=generator).squeeze(1))
    return torch.cat(drawn)
