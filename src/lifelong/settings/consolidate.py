"""Settings of folding a model's adapters into its weights."""

from __future__ import annotations

from pydantic import Field

from lifelong.settings.session import SessionSettings


class ConsolidateSettings(SessionSettings):
    """Settings of ``lifelong consolidate``; the text of which epochs are counted is the replay memory."""

    teacher_share: float = Field(
        default=0.5, ge=0, le=1, description="Part of the loss that is each domain's own adapter as a teacher."
    )
    samples: int = Field(
        default=64,
        ge=0,
        description="Texts that a base pretrained elsewhere writes itself, to be replayed for what it was trained on.",
    )
