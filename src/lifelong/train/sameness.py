"""Going on exactly needs the same data and settings, and the same machine: what a run was begun with, and is now."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import sha256_file, sweep_temporaries
from lifelong.text.corpus import Corpus
from lifelong.tokens.mixture import NamedCache
from lifelong.train.folder import RunFolder


def what_it_rests_on(run: RunFolder, corpus: Corpus, caches: Sequence[NamedCache]) -> dict[str, Any]:
    """Return the hashes of a run's data and settings, and the facts of this machine that the last bit depends on."""
    return {
        "data_sha256": _data_hash(run, corpus, caches),
        "settings_sha256": sha256_file(run.path / "resolved_settings.yaml"),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Return what of this machine a result depends on to the last bit."""
    return {
        "torch": torch.__version__,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def check_same(run: RunFolder, corpus: Corpus, caches: Sequence[NamedCache]) -> None:
    """Compare what a resumed run rests on with what it was begun with; another machine is said.

    Raises:
        LifelongError: the data or the settings have changed since the run was begun.
    """
    before, now = run.facts, what_it_rests_on(run, corpus, caches)
    fix = (
        f"Put back what it was, or train further with what it is now: lifelong train --base {run.path / 'latest'} "
        "--out ANOTHER --data ..."
    )
    if "data_sha256" not in before:
        raise LifelongError("the run was begun with an earlier version of lifelong", where=str(run.path), fix=fix)
    if before["data_sha256"] != now["data_sha256"]:
        where = ", ".join(before["data"]) or str(caches[0].cache.path.parent)
        raise LifelongError(
            "the data has changed since the run was begun, so it cannot go on exactly", where=where, fix=fix
        )
    if before["settings_sha256"] != now["settings_sha256"]:
        where = str(run.path / "resolved_settings.yaml")
        raise LifelongError("the run's settings have been changed since it was begun", where=where, fix=fix)
    for name, value in now["machine"].items():
        if value != before["machine"][name]:
            progress.note(
                f"note: {name} was {before['machine'][name]} when the run was begun, and is {value} now: it goes on, "
                "but not to the last bit as it would have"
            )
    if before["threads"] > (os.cpu_count() or 1):
        progress.note(f"note: the run was begun with {before['threads']} threads; here are {os.cpu_count()} cores")


def sweep(run: RunFolder) -> None:
    """Remove what a killed process had begun to write in a run."""
    for folder in (run.path, run.checkpoints):
        sweep_temporaries(folder)


def _data_hash(run: RunFolder, corpus: Corpus, caches: Sequence[NamedCache]) -> str:
    """Return a SHA-256 over the text that is held out, and over what is trained on: the caches, or the run's text."""
    digest = hashlib.sha256()
    own = [item for item in caches if item.cache.path.is_relative_to(run.path)]
    for item in caches:
        if item not in own:
            for shard in item.cache.facts.shards:
                digest.update(repr(sorted(shard.sha256.items())).encode())
    for documents in [corpus.gate, corpus.test, corpus.train if own else []]:
        for document in documents:
            digest.update(document.text.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(b"\1")
    return digest.hexdigest()


def _processor() -> str:
    """Return the processor's model, as Linux tells it, or else its architecture."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
