"""Settings of one lesson."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from lifelong.settings.keys import FolderName
from lifelong.settings.session import SessionSettings


class LearnSettings(SessionSettings):
    """Settings of ``lifelong learn``. One of ``epochs``, ``steps`` and ``minutes`` says how long; 3 epochs if none."""

    synonyms: ClassVar[dict[str, str]] = {
        "lora_r": "lora_rank",
        "max_seq_len": "sequence_length",
        "num_epochs": "epochs",
    }

    domain: FolderName = Field(default="general", description="Name of the body of knowledge that is taught.")
    adapter_name: FolderName | None = Field(
        default=None, description="Name of the adapter (default: the domain); where no mode is given, it asks for one."
    )
    mode: Literal["auto", "adapter", "full"] = Field(
        default="auto",
        description="adapter: new low-rank weights beside the others; full: all weights; auto: all weights of a model "
        "that was trained here and has no adapters, unless one is named, and an adapter where these are undone; else "
        "an adapter.",
    )
    lora_rank: int = Field(default=8, gt=0, description="Rank of the adapter.")
    lora_alpha: float = Field(default=16.0, gt=0, description="Scale of the adapter is alpha / rank.")
    lora_dropout: float = Field(default=0.05, ge=0, lt=1, description="Dropout on the adapter's input.")
    replay_buffer_size: int = Field(
        default=1000,
        ge=0,
        description="Room of the replay memory, in examples of 4 kB (shorter ones take less); 0: none.",
    )
    replay_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of rows drawn from the replay memory (default: half with all weights; with an adapter 5% to "
        "25%, the more the further the text is from what the model knows).",
    )
    teacher_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Part of the loss on replayed rows that is the model before the lesson as a teacher (all weights).",
    )
    importance: float = Field(
        default=1.0, gt=0, description="Weight of this text beside replay, in training and in the replay memory."
    )
    again: bool = Field(default=False, description="Teach also what was taught before.")
