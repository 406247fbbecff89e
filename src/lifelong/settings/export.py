"""Settings of handing a model to other programs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from lifelong.errors import suggest
from lifelong.settings.keys import NamedSettings

Target = Literal["huggingface", "onnx", "gguf", "inference"]
# What each target can be rounded to; the first is the default.
PRECISIONS: dict[str, tuple[str, ...]] = {
    "huggingface": ("fp32", "fp16", "bf16"),
    "onnx": ("fp32", "int8", "int4"),
    "gguf": ("fp16", "fp32", "bf16", "q8_0", "q4_0"),
    "inference": ("fp32", "fp16", "bf16"),
}
_SHORT = {"f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16", "bfloat16": "bf16", "q8": "q8_0"}


def _target(value: Any) -> Any:
    name = str(value).lower()
    if name not in get_args(Target):
        raise ValueError(f"unknown target '{value}'; there are {', '.join(PRECISIONS)}.{suggest(name, PRECISIONS)}")
    return name


def _precision(value: Any) -> Any:
    return value if value is None else _SHORT.get(str(value).lower(), str(value).lower())


class ExportSettings(NamedSettings):
    """Settings of ``lifelong export``."""

    synonyms: ClassVar[dict[str, str]] = {"format": "to"}

    to: Annotated[str, BeforeValidator(_target)] = Field(
        default="huggingface",
        description="huggingface: for transformers and vLLM; onnx: for onnxruntime; gguf: for llama.cpp and Ollama; "
        "inference: the weights alone, for here.",
    )
    adapter: str | None = Field(
        default=None, description="Fold this adapter into the weights; `base`: the weights without any adapter."
    )
    merged: bool = Field(
        default=False,
        description="Fold the one adapter there is into the weights, instead of laying it beside them.",
    )
    precision: Annotated[str | None, BeforeValidator(_precision)] = Field(
        default=None,
        description="huggingface, inference: fp32 (default), fp16, bf16; onnx: fp32 (default), int8, int4; gguf: fp16 "
        "(default), fp32, bf16, q8_0, q4_0.",
    )
    strings: int = Field(default=1500, gt=0, description="Texts of which the token ids are compared.")
    tokens: int = Field(
        default=500, gt=0, description="Tokens of held-out text of which the probabilities are compared."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = PRECISIONS[self.to]
        if self.precision is not None and self.precision not in known:
            raise ValueError(f"{self.to} has no precision '{self.precision}'; there are {', '.join(known)}")
        return self

    @property
    def rounding(self) -> str:
        """The precision asked for, or the target's default."""
        return self.precision or PRECISIONS[self.to][0]
