"""Which text a bad step was made of: its rows with the highest loss, and the documents in them."""

from __future__ import annotations

import math
from typing import Any

import torch

from lifelong.tokens.decoding import decode_documents
from lifelong.tokens.shards import TokenCache
from lifelong.train.job import Job
from lifelong.train.loop import precision
from lifelong.train.objectives import Objective, trained_tokens

_ROWS, _DOCUMENTS, _WORDS = 3, 3, 60  # rows named, documents of each, characters of a document


def find_suspects(job: Job, step: int, objective: Objective) -> list[dict[str, Any]]:
    """Return the rows of a step (1-based) with the highest loss, those whose loss is no number first.

    Each has ``micro_batch`` (counted from 0 within the step), ``row``, ``loss`` in nats per token, and ``documents``:
    ``file`` (and line) where it is known, else cache, shard and number; and ``text``, how it begins. Neither weights
    nor random state change.
    """
    settings = job.settings
    job.world.refresh()
    accumulate = settings.gradient_accumulation_steps
    found: list[dict[str, Any]] = []
    training = job.model.training
    job.model.eval()
    for part in range(accumulate):
        micro = (step - 1) * accumulate + part
        for row in range(settings.batch_size):
            loss = _row_loss(job, micro * settings.batch_size + row, objective)
            if loss is not None:
                found.append({"micro_batch": part, "row": row, "loss": loss})
    job.model.train(training)
    found.sort(key=lambda item: -item["loss"] if math.isfinite(item["loss"]) else -math.inf)
    for item in found[:_ROWS]:
        index = ((step - 1) * accumulate + item["micro_batch"]) * settings.batch_size + item["row"]
        item["documents"] = _documents(job, index)
    return found[:_ROWS]


def spell_suspect(item: dict[str, Any]) -> str:
    """Return a line on one row of `find_suspects`."""
    texts = "; ".join(f"{document['place']} ({document['text']!r})" for document in item["documents"])
    return f"micro-batch {item['micro_batch']}, row {item['row']}, loss {item['loss']:.3f}: {texts or 'replayed text'}"


def _row_loss(job: Job, index: int, objective: Objective) -> float | None:
    """Return the loss of one global sample in nats per token; None where nothing of it is trained on."""
    batch = job.loader.rows(index, 1)
    tokens = trained_tokens(batch)
    if not tokens:
        return None
    device = job.model.device
    # Compiled blocks are compiled for the shapes of training.
    computing = precision(device, job.bf16, fp16=job.precision == "fp16")
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), computing:
        return float(objective(job.model, batch.to(device))) / tokens


def _documents(job: Job, index: int) -> list[dict[str, Any]]:
    cache, numbers = job.loader.documents(index)
    named = []
    for number, document in zip(numbers, decode_documents(cache, job.tokenizer, numbers), strict=True):
        begin = " ".join(document.text[: 4 * _WORDS].split())[:_WORDS]
        named.append({"place": _place(job, cache, number), "text": begin})
        if len(named) == _DOCUMENTS:
            break
    return named


def _place(job: Job, cache: TokenCache, number: int) -> str:
    """Return ``file:line`` of a document of the run's own text; of another: cache, shard and number."""
    name = cache.path.name
    if not job.cached and name.startswith("train@"):
        weight = float(name.partition("@")[2])
        own = [document for document in job.corpus.train if document.weight == weight]
        if len(own) == cache.documents:
            return own[number].place
    shard, first = 0, 0
    while number >= first + cache.facts.shards[shard].documents:
        first += cache.facts.shards[shard].documents
        shard += 1
    return f"{cache.path}, shard {shard}, document {number - first}"
