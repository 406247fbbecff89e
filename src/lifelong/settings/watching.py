"""Settings of what happens around the steps of a run: stopping early, samples, pictures and logs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lifelong.settings.base import Settings


class EarlyStoppingSettings(Settings):
    """When a run ends before its last step."""

    enabled: bool | None = Field(
        default=None, description="Stop early and keep the best weights (default: where a patience is given)."
    )
    patience: int | None = Field(
        default=None, ge=1, description="Measures without an improvement, after which a run stops (default: 5)."
    )
    min_delta: float = Field(default=0.0, ge=0, description="The least change that counts as an improvement.")
    metric: Literal["val_loss", "train_loss"] = Field(
        default="val_loss", description="val_loss: of held-out text; train_loss: mean since the measure before."
    )
    mode: Literal["min", "max"] = Field(default="min", description="Whether lower or higher is better.")

    @property
    def on(self) -> bool:
        """Whether a run may stop early."""
        return self.patience is not None if self.enabled is None else self.enabled

    @property
    def measures(self) -> int:
        """Measures without an improvement after which a run stops."""
        return 5 if self.patience is None else self.patience


class HealthSettings(Settings):
    """Which steps are left out, and when a run goes back to its last good checkpoint."""

    spikes: bool = Field(
        default=True,
        description="Leave out steps whose loss jumps far above its recent course (NaN: always).",
    )
    spike_score: float = Field(
        default=12.0, gt=0, description="Robust standard deviations above the recent median that make a spike."
    )
    window: int = Field(default=100, ge=2, description="Recent steps that a loss is compared with.")
    patience: int = Field(
        default=3, ge=1, description="Bad steps in a row, after which a run goes back to its last good checkpoint."
    )


class SamplesSettings(Settings):
    """Texts that the model writes with every measure."""

    enabled: bool | None = Field(
        default=None, description="Write samples with every measure (default: where prompts are given)."
    )
    prompts: tuple[str, ...] = Field(default=(), description="Beginnings that the model continues.")
    max_tokens: int = Field(default=50, gt=0, description="New tokens in a sample at most.")
    temperature: float = Field(default=0.8, ge=0, description="Higher is more varied; 0 takes the likeliest token.")
    top_k: int = Field(default=50, ge=0, description="Likeliest tokens that are considered; 0: all.")
    top_p: float = Field(
        default=0.9, ge=0, le=1, description="Smallest set of tokens with this probability; 1 or 0: all."
    )
    num_samples: int = Field(default=1, gt=0, description="Samples of each prompt.")

    @property
    def on(self) -> bool:
        """Whether samples are written."""
        return bool(self.prompts) if self.enabled is None else self.enabled

    def sampling(self) -> dict[str, Any]:
        """Return the arguments of `lifelong.generate.engine.generate`."""
        return self.model_dump(exclude={"enabled", "prompts"})


class WandbSettings(Settings):
    """Weights & Biases: nothing leaves this machine unless ``mode`` is ``online``."""

    enabled: bool = Field(default=False, description="Log to Weights & Biases.")
    project: str = Field(default="lifelong", description="Its project.")
    entity: str | None = Field(default=None, description="Its user or team.")
    name: str | None = Field(default=None, description="The run's name there (default: model and run).")
    tags: tuple[str, ...] = Field(default=(), description="Its tags.")
    mode: Literal["offline", "online"] = Field(
        default="offline", description="offline: into the run's folder, for `wandb sync`; online: sent at once."
    )


class TrackioSettings(Settings):
    """Trackio: a dashboard on this machine (`trackio show`)."""

    enabled: bool = Field(default=False, description="Log to trackio.")
    project: str = Field(default="lifelong", description="Its project.")
    name: str | None = Field(default=None, description="The run's name there (default: model and run).")


class TrackingSettings(Settings):
    """What a run leaves to look at, beside its metrics and its log."""

    tensorboard: bool | None = Field(
        default=None, description="Write TensorBoard's event files (default: where it is installed)."
    )
    wandb: WandbSettings = Field(default_factory=WandbSettings)
    trackio: TrackioSettings = Field(default_factory=TrackioSettings)
    plots: bool = Field(default=True, description="Draw loss, perplexity and learning rate when the run has ended.")
