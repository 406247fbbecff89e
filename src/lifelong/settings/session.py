"""What lessons and consolidations have in common: how long, how fast, how they are judged, and on what machine."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lifelong.settings.keys import NamedSettings
from lifelong.settings.train import Precision, Switch


class SessionSettings(NamedSettings):
    """One of ``epochs``, ``steps`` and ``minutes`` says how long; 3 epochs if none."""

    exclusive: ClassVar[tuple[str, ...]] = ("epochs", "steps", "minutes")
    exclusive_default: ClassVar[float | None] = 3.0

    epochs: float | None = Field(default=None, gt=0, description="Passes over the text (default: 3).")
    steps: int | None = Field(default=None, gt=0, description="Optimizer steps, instead of epochs.")
    minutes: float | None = Field(default=None, gt=0, description="Time to train, instead of epochs.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Peak learning rate (default: the one that the model was trained at; else 2e-4).",
    )
    batch_size: int = Field(default=8, gt=0, description="Rows in one forward pass.")
    gradient_accumulation_steps: int = Field(default=1, gt=0, description="Forward passes in one optimizer step.")
    sequence_length: int | None = Field(default=None, gt=0, description="Tokens in a row (default: the model's).")
    use_ewc: bool = Field(default=True, description="Pull weights that the old domains need back to where they were.")
    ewc_lambda: float = Field(
        default=1000.0, ge=0, description="Strength of that pull; 1000 weighs a nat of old text like one of new."
    )
    ewc_gamma: float = Field(
        default=0.95, ge=0, le=1, description="Share of what earlier domains need that counts on when others join them."
    )
    fisher_batches: int = Field(
        default=32, gt=0, description="Batches of each old domain's text that EWC's Fisher is estimated on."
    )
    tolerance: float = Field(
        default=0.01, ge=0, description="Share of its bits per byte that an old domain may lose, or all is undone."
    )
    accept: bool = Field(default=False, description="Keep the outcome whatever the measures say.")
    max_bytes: int = Field(default=200_000, gt=0, description="Bytes of each domain's slices that are measured.")
    seed: int = Field(default=0, ge=0, description="Seed of new weights, data order, replay and dropout.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Precision = Field(default="auto", description="Type of matrix products; weights are always fp32.")
    compile: Switch = Field(default="auto", description="Compile the blocks; auto: where the run is long enough.")
    threads: int | None = Field(default=None, gt=0, description="CPU threads (default: all cores).")
