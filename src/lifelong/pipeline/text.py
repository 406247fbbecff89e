"""The first stages: a tokenizer learned from all the text, and token caches of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import check_manifest, sha256_bytes, sha256_file
from lifelong.settings.cache import AllCachesSettings, CacheSettings
from lifelong.settings.pipeline import PipelineSettings
from lifelong.settings.prepare import TokenizerSettings
from lifelong.settings.train import TrainSettings
from lifelong.text.document import DataSource
from lifelong.text.readers import read_sources
from lifelong.text.sources import expand_sources
from lifelong.tokens.base import VocabularyTooLarge
from lifelong.tokens.build_all import HUB_SETS, OWN_SETS, build_all
from lifelong.tokens.cache_sets import build_named, default_name, source_hash
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.mixture import list_caches
from lifelong.tokens.training import train_from_sources

# What a tokenizer learns from of each set of the hub: more changes hardly a merge.
_HUB_BYTES = 20_000_000
_CHAT_SETS = ("dolly15k", "oasst1")


@dataclass(frozen=True)
class Sources:
    """What a pipeline reads: text and conversations of the user's, or else the usual sets, by name."""

    data: tuple[DataSource, ...] = ()
    chat: tuple[DataSource, ...] = ()
    usual: Mapping[str, DataSource] | None = None

    @classmethod
    def of(cls, settings: PipelineSettings) -> Sources:
        """Return the sources that settings name; of the usual sets where they name none."""
        if settings.data or settings.chat:
            return cls(tuple(expand_sources(settings.data)), tuple(expand_sources(settings.chat)))
        given = dict(zip(OWN_SETS, (settings.roam_dir, settings.primer), strict=True))
        own = {name: DataSource(path, name) for name, path in given.items() if path is not None}
        return cls(usual={**own, **{name: DataSource(spec) for name, spec in HUB_SETS.items()}})

    @property
    def all(self) -> list[DataSource]:
        """Every source, conversations last."""
        return list(self.usual.values()) if self.usual is not None else [*self.data, *self.chat]

    def of_phase(self, phase: str) -> tuple[DataSource, ...]:
        """The user's own sources for a phase."""
        return self.chat if phase == "sft" else self.data

    def hash(self) -> str:
        """Return a hash of what all sources hold, of their weights, and of the names of the usual sets."""
        how = repr((sorted(self.usual or ()), [source.weight for source in self.all], len(self.chat)))
        return sha256_bytes(f"{how}\n{source_hash(self.all)}".encode())


@dataclass(frozen=True)
class TokenizerStage:
    """Learn a tokenizer from the train split of all sources."""

    place: Path
    sources: Sources
    settings: PipelineSettings
    name: str = "tokenizer"
    needs: tuple[str, ...] = ()

    @property
    def learning(self) -> TokenizerSettings:
        """Settings of learning it."""
        settings = self.settings
        return TokenizerSettings(kind=settings.tokenizer_kind, vocab_size=settings.vocab_size, seed=settings.seed)

    def inputs(self) -> dict[str, Any]:
        """Return what the tokenizer follows from."""
        return {"text": self.sources.hash(), "settings": self.learning.model_dump(mode="json")}

    def problem(self) -> str | None:
        """Return what is wrong with the tokenizer on disk."""
        return check_manifest(self.place)

    def begin(self) -> dict[str, Any]:
        """Return facts to note before it runs."""
        return {}

    def run(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """Train and save it; of the sets of the hub, those that can be reached."""
        missing: dict[str, str] = {}
        sources = self.sources.all
        if self.sources.usual is not None:
            sources, missing = reachable(self.sources.usual)
        try:
            facts = train_from_sources(sources, self.place, self.learning)
        except VocabularyTooLarge as error:
            progress.note(f"The text supports {error.supported:,} tokens instead of {self.learning.size:,}.")
            smaller = self.learning.model_copy(update={"vocab_size": error.supported})
            facts = train_from_sources(sources, self.place, smaller)
        kept = {key: facts[key] for key in ("vocab_size", "fingerprint", "documents", "bytes")}
        return {**kept, "missing": missing}


def reachable(usual: Mapping[str, DataSource]) -> tuple[list[DataSource], dict[str, str]]:
    """Return those of the usual sets whose first document can be read, and why the others cannot.

    Raises:
        LifelongError: none can; or one of the user's own cannot.
    """
    found: list[DataSource] = []
    missing: dict[str, str] = {}
    for name, source in usual.items():
        if not source.is_hub:
            found.append(source)
            continue
        try:
            next(iter(read_sources([source])), None)
            found.append(replace(source, max_bytes=_HUB_BYTES))
        except (LifelongError, ModuleNotFoundError) as error:
            missing[name] = _reason(error)
            progress.note(f"'{name}' cannot be had: {missing[name]}")
    if not found:
        raise LifelongError(
            "there is no text to learn from: none of the usual sets can be had here",
            fix="Name text of your own: --data SOURCE... --chat SOURCE..., or --roam-dir and --primer.",
        )
    return found, missing


@dataclass(frozen=True)
class CachesStage:
    """Encode all sources: ``pretrain/NAME`` of running text, ``sft/NAME`` of conversations."""

    root: Path
    sources: Sources
    settings: PipelineSettings
    tokenizer: Path
    named: Mapping[str, bool]  # by phase: its settings name the caches of a mixture
    name: str = "caches"
    needs: tuple[str, ...] = ("tokenizer",)

    def inputs(self) -> dict[str, Any]:
        """Return what the caches follow from."""
        kept = self.settings.model_dump(include={"seed", "fineweb_train_tokens", "fineweb_val_tokens"})
        return {
            "text": self.sources.hash(),
            "tokenizer": load_tokenizer(self.tokenizer).fingerprint,
            "settings": {**kept, "caches": sorted(self._groups())},
        }

    def problem(self) -> str | None:
        """Return what is wrong with the caches on disk."""
        places = cache_places(self.root)
        if not places:
            return f"there are no caches in {self.root}"
        return next((f"{place}: {bad}" for place in places if (bad := check_manifest(place))), None)

    def begin(self) -> dict[str, Any]:
        """Return facts to note before it runs."""
        return {}

    def run(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """Build what is not there yet; what an interrupted build finished is kept."""
        words, fresh = load_tokenizer(self.tokenizer), begun is None
        if self.sources.usual is not None:
            usual = AllCachesSettings(
                seed=self.settings.seed,
                fineweb_train_tokens=self.settings.fineweb_train_tokens,
                fineweb_val_tokens=self.settings.fineweb_val_tokens,
            )
            places = {name: Path(str(source.path)) for name, source in self.sources.usual.items() if name in OWN_SETS}
            result = build_all(
                words,
                self.root,
                usual,
                roam_dir=places.get("roam"),
                primer=places.get("primer"),
                skip=[name for name in OWN_SETS if name not in places],
                fresh=fresh,
            )
            missing = {name: reason.splitlines()[0] for name, reason in result["failed"].items()}
            built = list(result["built"].values())
        else:
            missing = {}
            built = [
                build_named(sources, words, self.root, CacheSettings(name=name, seed=self.settings.seed), fresh=fresh)
                for name, sources in self._groups().items()
            ]
        sizes: dict[str, int] = {}
        chats = {name for name, group in self._groups().items() if group[0] in self.sources.chat}
        for one in built:
            for cache in one["caches"]:
                label = "/".join(Path(cache["path"]).parts[-3:])
                sizes[label] = cache["tokens"]
                progress.note(
                    f"  {label}: {cache['tokens']:,} tokens of {progress.spell_count(cache['documents'], 'document')}"
                )
            groups = {Path(cache["path"]).parent.parent.name for cache in one["caches"]}
            if self.sources.data and "sft" in groups and one["name"] not in chats:
                use = "tuned on with those of --chat" if chats else "not trained on: name them with --chat"
                progress.note(f"  note: '{one['name']}' holds conversations, which are {use}")
            if "pretrain" in groups and one["name"] in chats:
                progress.note(f"  note: '{one['name']}' holds running text, which is pretrained on")
            for source in one.get("text", {}).get("sources", []):
                for reason, dropped in source["dropped"].items():
                    progress.note(f"  note: {source['path']}: dropped, {reason}: {dropped['count']:,}")
        return {"tokens": sizes, "missing": missing}

    def _groups(self) -> dict[str, list[DataSource]]:
        """Return the sources of each cache: one for all text and one for all conversations, near duplicates out.

        Sources of different weights, and those of which the settings name a mixture, have a cache each.
        """
        groups: dict[str, list[DataSource]] = {}
        for name, phase, sources in (("text", "pretrain", self.sources.data), ("chat", "sft", self.sources.chat)):
            if len({source.weight for source in sources}) > 1 or (sources and self.named[phase]):
                for source in sources:
                    if (name := default_name([source])) in groups:
                        raise LifelongError(
                            f"two sources are called '{name}', and each is to have a cache of its own",
                            where=str(source.path),
                            fix="Rename one. (Sources of one weight, without a mixture, share a cache.)",
                        )
                    groups[name] = [source]
            elif sources:
                groups[name] = list(sources)
        return groups

    def weights(self, phase: str) -> dict[str, float] | None:
        """Return the weights of a phase's caches, tokens times what the sources ask for; None where all are alike."""
        sources = self.sources.of_phase(phase)
        if len({source.weight for source in sources}) < 2:
            return None
        from lifelong.tokens.shards import open_cache

        there = list_caches(self.root / phase)
        asked = {name: group[0].weight for name, group in self._groups().items() if group[0] in sources}
        return {name: weight * open_cache(there[name]).tokens for name, weight in asked.items() if name in there}


def cache_places(root: Path) -> list[Path]:
    """Return the folders of all caches below ``root``."""
    return sorted(path.parent for path in root.glob("*/*/*/meta.json"))


def caches_hash(folder: Path, phase: str) -> str:
    """Return a hash of all caches of a phase: their names, and their facts with the fingerprints of their sources."""
    kind = "sft" if phase == "sft" else "pretrain"
    lines = [
        f"{name}/{split} {sha256_file(path / 'meta.json')}"
        for split in ("train", "val", "test")
        for name, path in list_caches(folder, kind, split).items()
    ]
    return sha256_bytes("\n".join(lines).encode())


def check_mixture(settings: TrainSettings, missing: Mapping[str, str]) -> None:
    """Check that the caches which a run's mixture names are there; say what a mixture of all there are goes without.

    Args:
        settings: of the run; they name the folder of the caches.
        missing: sets that could not be built, and why.

    Raises:
        LifelongError: one is lacking, or there are none at all; names all that lack, and why.
    """
    kind = "sft" if settings.phase == "sft" else "pretrain"
    title = "chat tuning" if kind == "sft" else "pretraining"
    folder = settings.data.folder(settings.phase)
    assert folder is not None  # only runs that read caches are checked
    there = list_caches(folder, kind)
    here = {name: reason for name, reason in missing.items() if (name in _CHAT_SETS) == (kind == "sft")}
    wanted = [*(settings.data.mix or {}), *([settings.data.validation] if settings.data.validation else [])]
    lacking = [name for name in dict.fromkeys(wanted) if name not in there]
    if there and not lacking:
        if here and not settings.data.mix:
            progress.note(f"note: {title} goes without {', '.join(here)}, which could not be had")
        return
    held = ", ".join(there) or "nothing"
    if not there:
        what = f"there is nothing for {title}: no {'conversations' if kind == 'sft' else 'running text'} in the caches"
    else:
        what = f"the mixture of {title} lacks {', '.join(lacking)} (there is: {held})"
    reasons = [f"{name}: {reason}" for name, reason in here.items() if not lacking or name in lacking]
    remedy = (
        f"Give what lacks, or mix what there is: --{kind} mix={{{', '.join(f'{name}: 1' for name in there)}}}"
        if there
        else f"Name some: --{'chat' if kind == 'sft' else 'data'} SOURCE..., or leave the stage out: --skip {kind}."
    )
    raise LifelongError(what, where=str(folder), fix="\n  ".join([*reasons, remedy]))


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error} (pip install 'lifelong[hub]')"
    return str(error).splitlines()[0]
