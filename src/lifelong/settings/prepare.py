"""Settings of reading text and of training a tokenizer on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lifelong.settings.keys import FolderName, NamedSettings
from lifelong.settings.watching import SamplesSettings


class PrepareSettings(NamedSettings):
    """Settings of ``lifelong prepare``."""

    synonyms: ClassVar[dict[str, str]] = {"validation_fraction": "gate_fraction", "min_length": "min_chars"}

    domain: FolderName | None = Field(default=None, description="Name of this body of knowledge.")
    format: str | None = Field(default=None, description="Kind of every source that names none (qa, chat, doc, ...).")
    gate_fraction: float = Field(default=0.1, ge=0, lt=1, description="Share of documents that decide on a lesson.")
    test_fraction: float = Field(default=0.1, ge=0, lt=1, description="Share of documents that only report.")
    split_by: Literal["path", "name"] = Field(
        default="path", description="Split by path, or by file name without suffix, wherever the file lies."
    )
    min_chars: int = Field(default=20, ge=0, description="Shorter documents are dropped.")
    near_duplicates: float = Field(
        default=0.8, ge=0, le=1, description="Similarity from which on a document is a copy of an earlier one; 0: off."
    )
    tokenizer: str = Field(
        default="bpe", description="bpe or sentencepiece to train one on the train split, a directory, or none."
    )
    vocab_size: int | None = Field(
        default=None,
        gt=0,
        description="Entries of its vocabulary, fewer where text is scarce (default: 8000 or 16000).",
    )
    max_length: int | None = Field(default=None, gt=0, description="Tokens of a document at most; longer text is cut.")
    over_long: Literal["truncate", "drop"] = Field(
        default="truncate", description="What becomes of longer conversations: their first turns, or nothing."
    )
    plain_text: bool = Field(default=False, description="Write train.txt, val.txt and test.txt too.")
    skip_bad: bool = Field(default=False, description="Leave out rows that cannot be read, instead of stopping.")
    seed: int = Field(default=0, ge=0, description="Seed of the split.")

    @model_validator(mode="after")
    def _leaves_text(self) -> Self:
        if self.gate_fraction + self.test_fraction >= 1:
            raise ValueError("gate_fraction and test_fraction together leave nothing to train on")
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Shares of train, gate and test."""
        return (1 - self.gate_fraction - self.test_fraction, self.gate_fraction, self.test_fraction)


class TokenizerSettings(NamedSettings):
    """Settings of ``lifelong tokenizer train``."""

    synonyms: ClassVar[dict[str, str]] = {"bytes": "source_bytes"}

    kind: Literal["bpe", "sentencepiece"] = Field(
        default="bpe", description="bpe: byte-level byte-pair encoding; sentencepiece: pieces that know spaces."
    )
    vocab_size: int | None = Field(
        default=None, gt=0, description="Entries of the vocabulary (default: 8000 for bpe, 16000 for sentencepiece)."
    )
    min_frequency: int = Field(default=2, gt=0, description="How often a pair must occur to be merged (bpe).")
    model_type: Literal["unigram", "bpe"] = Field(default="unigram", description="How sentencepiece finds its pieces.")
    source_bytes: tuple[str, ...] = Field(
        default=(), description="Bytes of a source to learn from at most, as NAME=BYTES: its path, or the end of it."
    )
    max_bytes: int = Field(
        default=100_000_000, gt=0, description="Bytes to learn from at most; of more text, documents are drawn."
    )
    balance: bool = Field(default=False, description="Learn from equally many bytes of each source or domain.")
    seed: int = Field(default=0, ge=0, description="Seed of the split of raw text, and of drawing documents.")

    @field_validator("source_bytes", mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        return tuple(f"{name}={size}" for name, size in value.items()) if isinstance(value, Mapping) else value

    @field_validator("source_bytes")
    @classmethod
    def _numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            name, _, size = item.rpartition("=")
            if not name or not re.fullmatch(r"[0-9_]*[1-9][0-9_]*", size):
                raise ValueError(f"write it as NAME=BYTES, for example wiki=20000000, not {item!r}")
        return value

    @property
    def budgets(self) -> dict[str, int]:
        """Bytes of each source that has a budget."""
        return {name: int(size) for name, _, size in (item.rpartition("=") for item in self.source_bytes)}

    @property
    def size(self) -> int:
        """Entries of the vocabulary, asked for or by default."""
        return self.vocab_size or (16_000 if self.kind == "sentencepiece" else 8000)


class EvaluateSettings(NamedSettings):
    """Settings of ``lifelong evaluate``."""

    synonyms: ClassVar[dict[str, str]] = {"max_seq_len": "sequence_length"}

    split: Literal["train", "gate", "test"] = Field(default="test", description="Which split of the data is measured.")
    sequence_length: int | None = Field(default=None, gt=0, description="Tokens in a row (default: the model's).")
    max_bytes: int | None = Field(default=None, gt=0, description="Whole documents up to this many bytes.")
    fixed_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Of its weight that each adapter gives the others after every token: follows changes of topic.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the split of raw text.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    generation: SamplesSettings = Field(
        default=SamplesSettings(), description="Texts that the model writes beside the figures."
    )
