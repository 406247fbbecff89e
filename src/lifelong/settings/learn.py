"""Settings of one lesson."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from lifelong.settings.keys import FolderName, NamedSettings
from lifelong.settings.train import Precision, Switch


class LearnSettings(NamedSettings):
    """Settings of ``lifelong learn``. One of ``epochs``, ``steps`` and ``minutes`` says how long; 3 epochs if none."""

    exclusive: ClassVar[tuple[str, ...]] = ("epochs", "steps", "minutes")
    exclusive_default: ClassVar[float | None] = 3.0
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
        "that was trained here and has no adapters, unless one is named; else an adapter.",
    )
    epochs: float | None = Field(default=None, gt=0, description="Passes over the text (default: 3).")
    steps: int | None = Field(default=None, gt=0, description="Optimizer steps, instead of epochs.")
    minutes: float | None = Field(default=None, gt=0, description="Time to train, instead of epochs.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Peak learning rate (default: the one that the model was trained at; 2e-4 for one pretrained "
        "elsewhere).",
    )
    batch_size: int = Field(default=8, gt=0, description="Rows in one forward pass.")
    gradient_accumulation_steps: int = Field(default=1, gt=0, description="Forward passes in one optimizer step.")
    sequence_length: int | None = Field(default=None, gt=0, description="Tokens in a row (default: the model's).")
    lora_rank: int = Field(default=8, gt=0, description="Rank of the adapter.")
    lora_alpha: float = Field(default=16.0, gt=0, description="Scale of the adapter is alpha / rank.")
    lora_dropout: float = Field(default=0.05, ge=0, lt=1, description="Dropout on the adapter's input.")
    replay_buffer_size: int = Field(default=1000, ge=0, description="Documents kept in the replay memory; 0: none.")
    replay_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of rows drawn from the replay memory (default: half with all weights; with an adapter 5% to "
        "25%, the more the further the text is from what the model knows).",
    )
    importance: float = Field(
        default=1.0, gt=0, description="Weight of this text beside replay, in training and in the replay memory."
    )
    again: bool = Field(default=False, description="Teach also what was taught before.")
    use_ewc: bool = Field(default=True, description="Pull weights that the old domains need back to where they were.")
    ewc_lambda: float = Field(
        default=1000.0, ge=0, description="Strength of that pull; 1000 weighs a nat of old text like one of new."
    )
    fisher_batches: int = Field(default=32, gt=0, description="Batches of old text that EWC's Fisher is estimated on.")
    tolerance: float = Field(
        default=0.01,
        ge=0,
        description="Share of its bits per byte that an old domain may lose, or the lesson is undone.",
    )
    accept: bool = Field(default=False, description="Keep the lesson whatever the measures say.")
    max_bytes: int = Field(default=200_000, gt=0, description="Bytes of each domain's slices that are measured.")
    seed: int = Field(default=0, ge=0, description="Seed of adapter, data order, replay and dropout.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Precision = Field(default="auto", description="Type of matrix products; weights are always fp32.")
    compile: Switch = Field(default="auto", description="Compile the blocks; auto: where the run is long enough.")
    threads: int | None = Field(default=None, gt=0, description="CPU threads (default: all cores).")
