"""What clients may ask, and how it is read: OpenAI's names; what would be ignored silently is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lifelong.errors import suggest
from lifelong.serve.errors import RequestError

# Says something about the client, nothing about the text.
_ABOUT = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
# Not done here; only what leaves the text as it is can be given.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "best_of": (1,),
    "suffix": ("",),
}

Asked = TypeVar("Asked", bound=BaseModel)
Ids = list[int]


class StreamOptions(BaseModel):
    """What a stream holds beside the text."""

    model_config = ConfigDict(strict=True)

    include_usage: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: str = Field(min_length=1, max_length=256)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("the body must be a JSON object")
        if "chat_template" in values or "chat_template_kwargs" in values:
            raise ValueError("a template from a request is never run: the model has its own")
        kept = {}
        for name, value in values.items():
            if name in cls.model_fields:
                if value is not None:  # null is what a client sends for "not given"
                    kept[name] = value
            elif name in _NEUTRAL:
                if value is not None and value not in _NEUTRAL[name]:
                    raise ValueError(f"'{name}' is not supported: leave it out")
            elif name not in _ABOUT:
                raise ValueError(f"unknown parameter '{str(name)[:80]}'.{suggest(str(name)[:80], cls.model_fields)}")
        return kept


class WritingRequest(_Request):
    """What the two ways to ask for a text share. What is not given is as the server was started."""

    max_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63)
    stop: str | list[str] = Field(default_factory=list)
    n: int = Field(default=1, ge=1)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end a text."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompletionRequest(WritingRequest):
    """Of ``/v1/completions``: texts, or token ids, to go on from."""

    prompt: str | list[str] | Ids | list[Ids] = ""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """What it says."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(WritingRequest):
    """Of ``/v1/chat/completions``; ``passages`` of the server's store stand before the last question."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    passages: int = Field(default=0, ge=0, le=50)


class EmbeddingRequest(_Request):
    """Of ``/v1/embeddings``."""

    input: str | list[str] | Ids | list[Ids]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)


def read_request(kind: type[Asked], body: bytes) -> Asked:
    """Return what a body asks for.

    Raises:
        RequestError: it is no JSON, or not what is asked for here; names the parameter.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {str(error)[:200]}", code="invalid_json") from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        # Of a union pydantic names the branch, too: only what the client wrote is named.
        place = [str(part) for part in first["loc"] if not _is_branch(part)]
        said = str(first["msg"]).removeprefix("Value error, ")
        where = ".".join(place)
        raise RequestError(400, f"{where}: {said}" if where else said, param=place[0] if place else None) from None


def _is_branch(part: str | int) -> bool:
    return isinstance(part, str) and (part in ("str", "int") or part.startswith(("list[", "constrained-")))
