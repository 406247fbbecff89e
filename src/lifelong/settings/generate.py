"""Settings of writing text."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from lifelong.settings.keys import NamedSettings

Engine = Literal["auto", "torch", "onnx", "gguf"]
# What computes, not how tokens are chosen: it stays as it is while a model writes.
COMPUTING = frozenset({"device", "engine", "precision"})


class DrawingSettings(NamedSettings):
    """How the next token is chosen, and where."""

    synonyms: ClassVar[dict[str, str]] = {"max_new_tokens": "max_tokens", "max_length": "max_tokens"}

    temperature: float = Field(default=0.8, ge=0, description="Higher is more varied; 0 takes the likeliest token.")
    top_p: float = Field(
        default=0.9, ge=0, le=1, description="Smallest set of tokens with this probability; 1 or 0: all."
    )
    top_k: int = Field(default=50, ge=0, description="Likeliest tokens that are considered; 0: all.")
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Leave out tokens below this share of the likeliest one's probability."
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="Above 1: tokens that were read or written become less likely."
    )
    stop: tuple[str, ...] = Field(default=(), description="Texts that end what is written, and are no part of it.")
    seed: int | None = Field(default=None, ge=0, description="The same seed gives the same text.")
    fixed_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Of its weight that each adapter gives the others after every token: follows changes of topic.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="Of the weights while text is written, on a CPU: bf16 is faster for large models, and rounds them.",
    )
    engine: Engine = Field(
        default="auto",
        description="What computes: torch; onnx or gguf: onnxruntime or llama.cpp, of such an export. auto: by "
        "what MODEL is.",
    )


class SamplingSettings(DrawingSettings):
    """The same, for texts that all begin at once."""

    top_experts: int | None = Field(
        default=None,
        gt=0,
        description="After the prompt, go on with this many adapters only, those it fits best (the base is one of "
        "them): faster, and no longer what evaluate measures (default: all).",
    )


class GenerateSettings(SamplingSettings):
    """Settings of ``lifelong generate``."""

    max_tokens: int = Field(default=50, gt=0, description="New tokens at most.")
    num_samples: int = Field(default=1, gt=0, description="Texts to write.")

    def sampling(self) -> dict[str, Any]:
        """Return the arguments of `lifelong.generate.engine.generate`."""
        return self.model_dump(exclude=set(COMPUTING))


class ChatSettings(SamplingSettings):
    """Settings of ``lifelong chat``."""

    max_tokens: int | None = Field(
        default=None, gt=0, description="New tokens in one answer at most (default: 128, or half the context)."
    )

    def sampling(self) -> dict[str, Any]:
        """Return the sampling arguments of `lifelong.generate.chat.ChatSession`."""
        return self.model_dump(exclude=set(COMPUTING), exclude_none=True)
