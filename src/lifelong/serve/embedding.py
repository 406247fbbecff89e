"""One vector for a text, of a model that reads in both directions."""

from __future__ import annotations

import torch

from lifelong.generate.inference import inference
from lifelong.model.encoder import EncoderOnlyModel
from lifelong.serve.views import Views

_PASS = 8192  # tokens that are read in one pass at most, unless one text is longer


def embed(views: Views, view: str, texts: list[list[int]]) -> list[list[float]]:
    """Return the mean of each text's states, of length 1: (texts, d_model). Texts of one length are read together."""
    found: dict[int, list[float]] = {}
    views.activate(view)
    model = views.model
    assert isinstance(model, EncoderOnlyModel)  # no other is asked
    with inference(model) as device:
        for length in sorted({len(ids) for ids in texts}):
            rows = [row for row, ids in enumerate(texts) if len(ids) == length]
            size = max(1, _PASS // length)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                ids_BT = torch.tensor([texts[row] for row in part], device=device)
                found.update(zip(part, model.embed(ids_BT).cpu().tolist(), strict=True))
    return [found[row] for row in range(len(texts))]
