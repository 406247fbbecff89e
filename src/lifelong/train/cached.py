"""Training from token caches: which a run names, and the text of theirs that decides, reports and is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.settings.train import TrainSettings
from lifelong.text.corpus import Corpus
from lifelong.text.document import DataSource, Document
from lifelong.text.memory import SLICE_BYTES
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.building import build_cache
from lifelong.tokens.decoding import decode_documents
from lifelong.tokens.mixture import NamedCache, list_caches, open_mixture
from lifelong.tokens.shards import TokenCache, is_cache, open_cache

_REMEMBERED = 1000  # documents offered to the replay memory


def open_caches(data: Sequence[str], settings: TrainSettings) -> list[NamedCache]:
    """Return the caches that a run reads; none where it reads text.

    Caches are named by ``--data CACHE[@WEIGHT] ...`` (``…/pretrain/NAME``), or by their folder and the mixture in the
    settings.

    Raises:
        LifelongError: neither text nor caches are named, or both; or a cache cannot be opened.
    """
    folder, mixing = settings.data.folder(settings.phase), settings.data
    sources = [DataSource.parse(item) for item in data]
    places = [_train_of(Path(source.path).expanduser()) for source in sources]
    if any(places) or folder:
        if not all(places) or (folder and places):
            raise LifelongError(
                "text and token caches cannot be read in one run",
                where=", ".join(data),
                fix="Build a cache of the text too: `lifelong cache build SOURCE --tokenizer DIR --out DIR`.",
            )
        if folder:
            kind = "sft" if settings.phase == "sft" else "pretrain"
            return open_mixture(folder, mixing.mix, kind=kind)
        opened = [open_cache(place) for place in places if place]
        weighted = any(source.weight != 1.0 for source in sources)
        return [
            NamedCache(_name(cache), cache, source.weight if weighted else float(cache.tokens))
            for cache, source in zip(opened, sources, strict=True)
        ]
    if not sources:
        raise LifelongError("there is nothing to train on", fix="Name text with --data, or caches with --cache-dir.")
    if mixing.mix or mixing.validation:
        raise LifelongError("a mixture names caches, but no folder of caches is given", fix="Add --cache-dir DIR.")
    return []


def corpus_of(caches: Sequence[NamedCache], tokenizer: Tokenizer, settings: TrainSettings) -> Corpus:
    """Return the text of caches that decides, reports and is remembered, decoded.

    *gate* and *test* are at most 1 MB of ``val`` and ``test`` (of all caches in turn, or of the one that the settings
    name), *train* a sample for the replay memory by the caches' shares.

    Raises:
        LifelongError: another tokenizer made a cache, or the validation cache does not exist.
    """
    for item in caches:
        item.cache.check_tokenizer(tokenizer)
    total = sum(item.weight for item in caches)
    remembered = [_spread(item.cache, tokenizer, max(1, round(_REMEMBERED * item.weight / total))) for item in caches]
    held_out = {}
    for split in ("val", "test"):
        found = list(_held_out(caches, split, settings))
        limit = SLICE_BYTES // max(1, len(found))
        held_out[split] = _in_turn([_up_to(cache, tokenizer, limit) for cache in found])
    if not held_out["val"]:
        progress.note("note: the caches have no val split, so nothing is measured while training")
    train = list(chain.from_iterable(remembered))
    return Corpus(train=train, gate=held_out["val"], test=held_out["test"], report={"warnings": []})


def cache_text(documents: Sequence[Document], tokenizer: Tokenizer, folder: Path) -> list[NamedCache]:
    """Cache a run's own text, one cache for each weight that its sources have.

    A source of weight 2 is seen twice as often, token for token, as one of weight 1.
    """
    weights = sorted({document.weight for document in documents})
    for weight in weights:
        chosen = (document for document in documents if document.weight == weight)
        build_cache(chosen, tokenizer, folder / f"train@{weight:g}")
    return reopen_text(folder, tokenizer)


def reopen_text(folder: Path, tokenizer: Tokenizer) -> list[NamedCache]:
    """Open what `cache_text` built."""
    caches = {float(path.name.partition("@")[2]): open_cache(path, tokenizer) for path in folder.glob("train@*")}
    return [NamedCache(f"weight {weight:g}", cache, weight * cache.tokens) for weight, cache in sorted(caches.items())]


def _train_of(path: Path) -> Path | None:
    """Return the cache to train on that a path names: itself, or its train split; None where it is no cache."""
    return next((place for place in (path / "train", path) if is_cache(place)), None)


def _name(cache: TokenCache) -> str:
    path = cache.path.resolve()
    return path.parent.name if path.name == "train" else path.name


def _held_out(caches: Sequence[NamedCache], split: str, settings: TrainSettings) -> Iterator[TokenCache]:
    wanted = settings.data.validation
    if wanted is None:
        for item in caches:
            if is_cache(item.cache.path.parent / split):
                yield open_cache(item.cache.path.parent / split)
        return
    kind = "sft" if settings.phase == "sft" else "pretrain"
    root = settings.data.folder(settings.phase) or caches[0].cache.path.parent.parent
    if split == "val" or wanted in list_caches(root, kind, split):
        yield open_mixture(root, {wanted: 1.0}, kind=kind, split=split)[0].cache


def _spread(cache: TokenCache, tokenizer: Tokenizer, count: int) -> list[Document]:
    indices = np.unique(np.linspace(0, cache.documents - 1, min(count, cache.documents)).astype(int))
    return list(decode_documents(cache, tokenizer, indices.tolist()))


def _up_to(cache: TokenCache, tokenizer: Tokenizer, limit: int) -> list[Document]:
    """Return documents from all over a cache, up to a number of bytes; at least one."""
    every = max(1, cache.bytes // limit)
    found: list[Document] = []
    size = 0
    for document in decode_documents(cache, tokenizer, range(0, cache.documents, every)):
        size += document.bytes
        if found and size > limit:
            break
        found.append(document)
    return found


def _in_turn(lists: list[list[Document]]) -> list[Document]:
    return [document for group in zip_longest(*lists) for document in group if document is not None]
