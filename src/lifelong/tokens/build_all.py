"""The usual sets in one command: two of the hub to pretrain on, two to tune for chat, and the user's own text."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError, suggest
from lifelong.settings.cache import AllCachesSettings, CacheSettings
from lifelong.text.document import DataSource
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.cache_sets import build_named

HUB_SETS = {
    "fineweb_edu": "hf:fineweb-edu",
    "wikitext": "hf:wikitext-103",
    "dolly15k": "hf:dolly-15k",
    "oasst1": "hf:oasst1",
}
OWN_SETS = ("roam", "primer")


def build_all(
    tokenizer: Tokenizer,
    out: Path,
    settings: AllCachesSettings,
    *,
    roam_dir: Path | None = None,
    primer: Path | None = None,
    skip: Collection[str] = (),
    fresh: bool = False,
) -> dict[str, Any]:
    """Build every set that can be had; one that cannot does not keep the others from being built.

    Args:
        tokenizer: a trained tokenizer.
        out: the folder of all caches.
        settings: budgets and splits.
        roam_dir: a Roam export, for the set ``roam``.
        primer: a file of primer dialogues, for the set ``primer``.
        skip: names of sets to leave out.
        fresh: build anew what is there.

    Returns:
        ``built`` by name (see `build_named`), and ``failed``: name and reason.

    Raises:
        LifelongError: a name to skip is unknown.
    """
    for name in skip:
        if name not in (*HUB_SETS, *OWN_SETS):
            known = (*HUB_SETS, *OWN_SETS)
            raise LifelongError(f"unknown set '{name}'.{suggest(name, known)}", fix=f"Sets: {', '.join(known)}.")
    sources = {name: DataSource(spec) for name, spec in HUB_SETS.items()}
    for name, path in zip(OWN_SETS, (roam_dir, primer), strict=True):
        if path is not None:
            sources[name] = DataSource(path, name)
        elif name not in skip:
            progress.note(f"note: no --{name}{'-dir' if name == 'roam' else ''} was given, so '{name}' is left out")
    built: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, source in sources.items():
        if name in skip:
            continue
        try:
            built[name] = build_named([source], tokenizer, out, _settings(name, settings), fresh=fresh)
        except (LifelongError, ModuleNotFoundError) as error:
            missing = isinstance(error, ModuleNotFoundError)
            failed[name] = f"{error}\n  pip install 'lifelong[hub]'" if missing else str(error)
            progress.note(f"'{name}' cannot be built: {failed[name]}")
    return {"out": str(out), "built": built, "failed": failed}


def _settings(name: str, given: AllCachesSettings) -> CacheSettings:
    values = given.model_dump(exclude={"fineweb_train_tokens", "fineweb_val_tokens"}) | {"name": name}
    if name == "fineweb_edu":
        train, val = given.fineweb_train_tokens, given.fineweb_val_tokens
        # Its documents are too many to read for nothing: as large a share is held out as the budgets ask for.
        share = val / (train + 2 * val)
        values |= {"train_tokens": train, "val_tokens": val, "gate_fraction": share, "test_fraction": share}
    return CacheSettings.build(values)
