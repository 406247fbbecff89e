"""Settings of folding a model's adapters into its weights."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lifelong.settings.session import SessionSettings


class ConsolidateSettings(SessionSettings):
    """Settings of ``lifelong consolidate``; the text of which epochs are counted is the replay memory; 1.6 if none."""

    exclusive_default: ClassVar[float | None] = 1.6

    epochs: float | None = Field(default=None, gt=0, description="Passes over the replay memory (default: 1.6).")
    replay_share: float = Field(
        default=0.45, ge=0, lt=1, description="Share of the rows that are of the domains that the weights know already."
    )
    use_ewc: bool = Field(default=False, description="Pull weights that these domains need back to where they were.")
    teacher_share: float = Field(
        default=0.5, ge=0, le=1, description="Part of the loss on those rows that is the model before as a teacher."
    )
    adapter_teacher_share: float = Field(
        default=0.0, ge=0, le=1, description="Part of the loss on other rows that is the domain's own adapter as one."
    )
    samples: int = Field(
        default=64,
        ge=0,
        description="Texts that a base pretrained elsewhere writes itself, to be replayed for what it was trained on.",
    )
