"""Named caches mixed by weight: who is there, what share of the tokens each gets, and how often each is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError, suggest
from lifelong.tokens.shards import TokenCache, is_cache, open_cache

if TYPE_CHECKING:
    from lifelong.tokens.base import Tokenizer

# Up to four epochs repeated text is worth nearly as much as new text, after that it soon is worth little
# (Muennighoff et al. 2023, "Scaling data-constrained language models", arXiv:2305.16264, section 6).
MAX_EPOCHS = 4.0


@dataclass(frozen=True)
class Part:
    """One source of a mixture: ``tokens`` it holds, ``drawn`` of them in all, so ``epochs``; shares are of tokens."""

    name: str
    asked: float
    share: float
    tokens: int
    drawn: int
    epochs: float


@dataclass(frozen=True)
class Mixture:
    """What a planned number of tokens is made of."""

    planned: int
    parts: list[Part]
    warnings: list[str] = field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """Each source's share of the tokens; together 1."""
        return {part.name: part.share for part in self.parts}

    def lines(self) -> list[str]:
        """Return the mixture as a tree: source, share, tokens, epochs."""
        width = max(len(part.name) for part in self.parts)
        lines = [f"mixture of {self.planned:,} tokens"]
        for index, part in enumerate(self.parts):
            branch = "└─" if index == len(self.parts) - 1 else "├─"
            asked = f"  (asked for {part.asked:.1%})" if abs(part.asked - part.share) > 5e-4 else ""
            lines.append(
                f"{branch} {part.name:<{width}}  {part.share:6.1%}  {part.drawn:>13,} of {part.tokens:,} tokens  "
                f"{part.epochs:.2f} epochs{asked}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return asdict(self)


def plan_mixture(
    sizes: Mapping[str, int], weights: Mapping[str, float], planned: int, *, max_epochs: float = MAX_EPOCHS
) -> Mixture:
    """Share ``planned`` tokens out among sources.

    A source that would be repeated more than ``max_epochs`` times is held there, and the others take over what it
    leaves, in proportion to their weights. Where that is more than all of them hold, all are repeated alike.

    Args:
        sizes: tokens of each source.
        weights: how many tokens of each, relative to the others; any positive numbers.
        planned: tokens to be drawn in all.
        max_epochs: the most that a source is repeated; a lone source is never held back.

    Raises:
        LifelongError: there is no source, a weight is not a positive number, or it belongs to no source.
    """
    if not weights:
        raise LifelongError("the mixture has no source")
    for name, weight in weights.items():
        if name not in sizes:
            raise _unknown(name, list(sizes))
        if not 0 < weight < float("inf"):
            raise LifelongError(f"the weight of '{name}' is {weight}, not a positive number")
    total = sum(weights.values())
    asked = {name: weight / total for name, weight in weights.items()}
    limits = {name: max_epochs * sizes[name] for name in weights}
    held: dict[str, float] = {}
    warnings: list[str] = []
    free = dict(asked)
    while free and len(asked) > 1:
        scale = (planned - sum(held.values())) / sum(free.values())
        over = [name for name, share in free.items() if share * scale > limits[name]]
        if not over:
            break
        for name in over:
            held[name] = limits[name]
            del free[name]
    everything = sum(sizes[name] for name in weights)
    if len(asked) > 1 and not free:
        drawn = {name: planned * sizes[name] / everything for name in weights}
        warnings.append(
            f"all sources together are repeated {planned / everything:.1f} times (more than {max_epochs:g}): "
            "the weights cannot be kept, all are repeated alike"
        )
    else:
        left = planned - sum(held.values())
        drawn = held | {name: left * share / sum(free.values()) for name, share in free.items()}
        warnings += [
            f"'{name}' is small: {asked[name] * planned / sizes[name]:.1f} epochs were asked for, it gets "
            f"{max_epochs:g}, and the other sources the rest"
            for name in held
        ]
    parts = [
        Part(name, asked[name], drawn[name] / planned, sizes[name], round(drawn[name]), drawn[name] / sizes[name])
        for name in weights
    ]
    return Mixture(planned, parts, warnings)


@dataclass(frozen=True)
class NamedCache:
    """A cache in a mixture; ``weight`` counts tokens."""

    name: str
    cache: TokenCache
    weight: float


def list_caches(root: str | Path, kind: str = "pretrain", split: str = "train") -> dict[str, Path]:
    """Return the caches of a split by name, below ``root`` or its folder ``pretrain`` or ``sft``."""
    root = Path(root).expanduser()
    folder = root / kind if (root / kind).is_dir() else root
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path / split for path in found if is_cache(path / split)}


def open_mixture(
    root: str | Path,
    weights: Mapping[str, float] | None = None,
    *,
    kind: str = "pretrain",
    split: str = "train",
    tokenizer: Tokenizer | None = None,
) -> list[NamedCache]:
    """Open the caches that a mixture names.

    Args:
        root: the folder that `lifelong cache build` wrote into, or its ``pretrain`` or ``sft``.
        weights: names and weights; by default all caches there, each by its tokens.
        kind: ``pretrain`` or ``sft``.
        split: ``train``, ``val`` or ``test``.
        tokenizer: the one that must have made them.

    Raises:
        LifelongError: a name is missing (those that exist are named), there are none, or another tokenizer made one.
    """
    there = list_caches(root, kind, split)
    if not there:
        raise LifelongError(
            f"there are no {kind} caches with a {split} split here",
            where=str(root),
            fix="Build one: `lifelong cache build SOURCE --tokenizer DIR --out DIR --name NAME`.",
        )
    for name in weights or {}:
        if name not in there:
            raise _unknown(name, list(there), str(root))
    named = []
    for name in weights or there:
        cache = open_cache(there[name], tokenizer)
        named.append(NamedCache(name, cache, weights[name] if weights else float(cache.tokens)))
    return named


def _unknown(name: str, known: list[str], where: str | None = None) -> LifelongError:
    return LifelongError(
        f"there is no cache '{name}'.{suggest(name, known)}", where=where, fix=f"There are: {', '.join(known)}."
    )
