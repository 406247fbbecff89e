"""What a model finds probable of a text that is there already."""

from __future__ import annotations

import torch
from torch import Tensor

from lifelong.generate.inference import inference
from lifelong.model.experts import share_weights
from lifelong.serve.jobs import Token
from lifelong.serve.views import Views

_CELLS = 16_000_000  # scores that are held at once


def score(views: Views, view: str, ids: list[int], top: int, *, fixed_share: float = 0.0) -> list[Token]:
    """Return the tokens of a text after its first, each with its log-probability and the ``top`` likeliest ones.

    Of several experts it is their mixture, weighed as when they write; see `lifelong.evaluate.routing`.
    """
    names = views.readers(view)
    device = views.model.device
    inputs, labels = torch.tensor([ids[:-1]], device=device), torch.tensor(ids[1:], device=device)
    with inference(views.model):
        states = []
        for name in names:
            views.activate(name)
            plain = views.model.plain_logits
            states.append((views.model.hidden(inputs) if plain else views.model(inputs))[0])
        weights = torch.full((len(names),), 1 / len(names), dtype=torch.double, device=device).log()
        found: list[Token] = []
        size = max(1, _CELLS // (len(names) * views.tokenizer.vocab_size))
        for start in range(0, len(labels), size):
            logs = torch.stack([_logs(views, part[start : start + size], plain) for part in states])
            mixed, weights = _mix(logs, labels[start : start + size], weights, fixed_share)
            best = mixed.topk(min(top, mixed.shape[1])) if top else None
            for row, label in enumerate(labels[start : start + size].tolist()):
                likeliest: list[tuple[int, float]] = []
                if best is not None:
                    likeliest = list(zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True))
                found.append(Token(label, float(mixed[row, label]), tuple(likeliest)))
    return found


def _logs(views: Views, states: Tensor, plain: bool) -> Tensor:
    logits = states @ views.model.output_weight.T if plain else states
    return logits[:, : views.tokenizer.vocab_size].float().log_softmax(-1)


def _mix(logs: Tensor, labels: Tensor, weights: Tensor, fixed_share: float) -> tuple[Tensor, Tensor]:
    """Return the mixture (T, V) of predictions (experts, T, V), and the experts' log-weights after the last token."""
    if len(logs) == 1:
        return logs[0], weights
    own = logs.gather(2, labels.expand(len(logs), -1).unsqueeze(2)).squeeze(2).double()
    if not fixed_share:
        evidence = weights.unsqueeze(1) + own.cumsum(1)
        before = torch.cat([weights.unsqueeze(1), evidence[:, :-1]], dim=1).log_softmax(0)
        after = evidence[:, -1]
    else:
        rows = []
        for nats in own.unbind(1):
            rows.append(weights)
            weights = share_weights((weights + nats).softmax(0), fixed_share).log()
        before, after = torch.stack(rows, dim=1), weights
    return torch.logsumexp(logs + before.unsqueeze(2).float(), dim=0), after.log_softmax(0)
