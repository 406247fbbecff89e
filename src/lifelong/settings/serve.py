"""Settings of the server."""

from __future__ import annotations

from pydantic import Field

from lifelong.settings.generate import DrawingSettings
from lifelong.settings.keys import NamedSettings


class AddressSettings(NamedSettings):
    """Where a server listens, and to whom."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; beyond this machine only with a key.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any that is free.")
    api_key: str | None = Field(
        default=None, min_length=1, description="What clients must show; also read from LIFELONG_API_KEY."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Names by which clients may call this server, beside the address it listens on."
    )


class ServeSettings(AddressSettings, DrawingSettings):
    """Settings of ``lifelong serve``: what holds where a request says nothing else, and limits."""

    slots: int = Field(default=16, gt=0, le=1024, description="Texts that one view of the model writes side by side.")
    queue: int = Field(default=64, gt=0, description="Texts that wait for a slot at most; more are refused (429).")
    context: int | None = Field(
        default=None, gt=1, description="Tokens of a prompt and its text at most (default: the model's, 4096 at most)."
    )
    max_tokens: int | None = Field(
        default=None,
        gt=0,
        description="New tokens unless a request names a number (default: 128, or half the context).",
    )
    stream_interval: float = Field(
        default=0.05,
        ge=0,
        le=10,
        description="Seconds between two pieces of a streamed text; what is written meanwhile comes together. 0: none.",
    )
    max_choices: int = Field(default=16, gt=0, description="Texts that one request may ask for.")
    max_messages: int = Field(default=256, gt=0, description="Messages of a conversation at most.")
    max_body: int = Field(default=2_000_000, gt=0, description="Bytes of a request at most.")
    passages: int = Field(default=3, ge=0, description="Passages of the store that the page asks for.")
