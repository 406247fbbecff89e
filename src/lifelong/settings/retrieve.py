"""Settings of finding passages and answering with them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from lifelong.settings.generate import SamplingSettings
from lifelong.settings.keys import NamedSettings


class IndexSettings(NamedSettings):
    """Settings of ``lifelong index``: how texts are cut into chunks, and what makes vectors of them."""

    synonyms: ClassVar[dict[str, str]] = {"split": "method"}

    method: Literal["paragraph", "sentence", "chunk", "semantic", "regex"] = Field(
        default="semantic",
        description="Cut at blank lines, sentences, fixed lengths, headings and then what fits, or a pattern.",
    )
    min_length: int = Field(default=50, ge=0, description="Characters: shorter chunks are joined to a neighbour.")
    max_length: int = Field(default=1000, gt=0, description="Characters of a chunk at most.")
    overlap: int | None = Field(
        default=None, ge=0, description="Characters that a chunk repeats, for `chunk` (default: a tenth)."
    )
    pattern: str | None = Field(default=None, description="What stands between two chunks, for `regex`.")
    embedder: str | None = Field(
        default=None,
        description="A directory with a model that makes vectors, or `hashed` (default: no vectors, or as it was).",
    )
    embedding_dim: int = Field(default=256, gt=0, description="Numbers in a vector of hashed words.")

    def splitting(self) -> dict[str, Any]:
        """Return the arguments of `DocumentProcessor.split_text`."""
        return self.model_dump(exclude={"embedder", "embedding_dim"})


class AskSettings(SamplingSettings):
    """Settings of ``lifelong ask``."""

    temperature: float = Field(default=0.7, ge=0, description="Higher is more varied; 0 takes the likeliest token.")
    max_tokens: int = Field(default=100, gt=0, description="New tokens at most.")
    passages: int = Field(default=3, gt=0, description="Passages to answer with, as far as they fit the context.")
    mode: Literal["keyword", "vector", "hybrid"] = Field(default="keyword", description="How passages are found.")

    def sampling(self) -> dict[str, Any]:
        """Return the sampling arguments of `lifelong.generate.engine.generate`."""
        return self.model_dump(include={"top_p", "top_k", "seed", "fixed_share", "top_experts"})
