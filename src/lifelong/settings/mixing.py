"""Settings of what a run reads from token caches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lifelong.errors import LifelongError
from lifelong.settings.base import Settings


def parse_weights(given: Iterable[str]) -> dict[str, float]:
    """Read ``NAME=WEIGHT`` pairs, as the command line takes them.

    Raises:
        LifelongError: one has not that form, or a name comes twice.
    """
    weights: dict[str, float] = {}
    for item in given:
        name, _, weight = item.rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            value = 0.0
        if not name or not 0 < value < float("inf"):
            raise LifelongError(f"'{item}' is not NAME=WEIGHT", fix="Write it like --mix fineweb_edu=0.6 roam=0.4.")
        if name in weights:
            raise LifelongError(f"'{name}' is given twice in the mixture")
        weights[name] = value
    return weights


def _weights(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    try:
        return parse_weights(map(str, value))
    except LifelongError as error:
        raise ValueError(str(error)) from None


Weights = Annotated[dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], BeforeValidator(_weights)]


class CacheFolders(Settings):
    """Folders whose entries are caches."""

    pretrain_token_cache: str | None = Field(default=None, description="Caches of running text.")
    sft_token_cache: str | None = Field(default=None, description="Caches of conversations.")


class MixSettings(Settings):
    """Which caches a run reads, and how much of each."""

    cache_dir: str | None = Field(default=None, description="The folder that `lifelong cache build` wrote into.")
    caches: CacheFolders = Field(default_factory=CacheFolders)
    mix: Weights | None = Field(
        default=None, description="Caches and weights, NAME=WEIGHT; weights count tokens (default: all there are)."
    )
    validation: str | None = Field(default=None, description="Cache whose val decides (default: those of the mixture).")
    max_epochs: float = Field(default=4.0, gt=0, description="The most that a source of a mixture is repeated.")

    def folder(self, phase: str) -> str | None:
        """Return the folder of the caches of a phase, or None where the run reads no caches."""
        own = self.caches.sft_token_cache if phase == "sft" else self.caches.pretrain_token_cache
        return own or self.cache_dir
