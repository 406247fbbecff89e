"""Settings of building token caches."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lifelong.settings.keys import FolderName, NamedSettings


class _Building(NamedSettings):
    shard_bytes: int = Field(default=134_217_728, gt=0, description="The most that the ids of a shard take on disk.")
    workers: int | None = Field(default=None, gt=0, description="Processes that encode (default: all cores).")
    gate_fraction: float = Field(default=0.1, ge=0, lt=1, description="Share of documents that go into val.")
    test_fraction: float = Field(default=0.1, ge=0, lt=1, description="Share of documents that go into test.")
    min_chars: int = Field(default=20, ge=0, description="Shorter documents are dropped.")

    @model_validator(mode="after")
    def _leaves_text(self) -> Self:
        if self.gate_fraction + self.test_fraction >= 1:
            raise ValueError("gate_fraction and test_fraction together leave nothing to train on")
        return self


class CacheSettings(_Building):
    """Settings of ``lifelong cache build``."""

    name: FolderName | None = Field(default=None, description="Name of the cache (default: the source's name).")
    train_tokens: int | None = Field(default=None, ge=0, description="Tokens for training (default: all there are).")
    val_tokens: int | None = Field(default=None, ge=0, description="Tokens of val, and of test (default: all).")
    seed: int = Field(default=0, ge=0, description="Seed of the split of raw text.")


class AllCachesSettings(_Building):
    """Settings of ``lifelong cache build-all``."""

    fineweb_train_tokens: int = Field(default=200_000_000, gt=0, description="Tokens of FineWeb-Edu for training.")
    fineweb_val_tokens: int = Field(default=5_000_000, gt=0, description="Tokens of FineWeb-Edu for val, and for test.")
    seed: int = Field(default=42, ge=0, description="Seed of the splits.")
