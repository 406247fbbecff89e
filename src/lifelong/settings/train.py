"""Settings of one training run."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from lifelong.settings.base import Settings
from lifelong.settings.distributed import DistributedSettings
from lifelong.settings.keys import FolderName, NamedSettings
from lifelong.settings.mixing import MixSettings
from lifelong.settings.watching import EarlyStoppingSettings, HealthSettings, SamplesSettings, TrackingSettings


def _switch(value: Any) -> Any:
    # YAML 1.1 reads a bare `on` or `off` as a truth value.
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Precision = Literal["auto", "bf16", "fp16", "fp32"]
Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class OptimizerSettings(Settings):
    """How weights move."""

    name: Literal["muon", "adamw"] = Field(
        default="muon", description="muon: Muon for the matrices of the blocks, AdamW for the rest; adamw: AdamW alone."
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Peak learning rate, on AdamW's scale (default: 3e-3 for muon, 3e-4 for adamw)."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="Decoupled weight decay of matrices.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.95), description="AdamW's averaging of gradients and of their squares."
    )
    momentum: float = Field(
        default=0.95, ge=0, lt=1, description="Muon's momentum; it rises to this over the first 300 steps."
    )
    ns_steps: int = Field(
        default=3, ge=1, le=20, description="Muon's Newton-Schulz steps; fewer are cheaper and rougher."
    )
    embedding_scale: float | None = Field(
        default=None,
        gt=0,
        description="AdamW's rate for embeddings and norms beside Muon, over the peak rate (new model: 8, else 1).",
    )
    grad_clip: float = Field(default=1.0, ge=0, description="Largest norm of all gradients together; 0 turns it off.")


class ScheduleSettings(Settings):
    """How the learning rate goes over the run."""

    kind: Literal["wsd", "cosine", "linear", "constant"] = Field(
        default="wsd", description="wsd: warm up, stay, then fall linearly."
    )
    warmup_steps: int | None = Field(default=None, ge=0, description="Steps of warming up (default: 2% of the run).")
    decay_fraction: float = Field(
        default=0.6, ge=0, le=1, description="The last share of the run over which wsd falls."
    )
    min_lr: float | None = Field(default=None, ge=0, description="Learning rate at the end (default: 0).")


class EvaluationSettings(Settings):
    """How often held-out text is measured while training."""

    every_steps: int | None = Field(
        default=None,
        gt=0,
        description="Steps between measures (default: ten measures a run, or fewer that take 2% of its time).",
    )
    max_bytes: int = Field(
        default=200_000, gt=0, description="Bytes of held-out text that are measured; half of it on the way."
    )
    generation: SamplesSettings = Field(default_factory=SamplesSettings)

    @property
    def gate_bytes(self) -> int:
        """Bytes of gate text that are measured on the way: often, so less."""
        return max(1, self.max_bytes // 2)


class CheckpointSettings(Settings):
    """How often the run is saved."""

    every_minutes: float = Field(default=10.0, gt=0, description="Minutes between checkpoints.")
    every_steps: int | None = Field(
        default=None, gt=0, description="Steps between checkpoints, beside those by time (default: by time alone)."
    )
    keep: int = Field(default=2, ge=1, description="Checkpoints kept; older ones are removed.")
    keep_epochs: int = Field(
        default=10, ge=0, description="Models of single epochs kept (`epoch_N/`), the newest; 0: none are written."
    )


class TrainSettings(NamedSettings):
    """Settings of ``lifelong train``. One of ``epochs``, ``steps`` and ``minutes`` says how long; 10 epochs if none."""

    exclusive: ClassVar[tuple[str, ...]] = ("epochs", "steps", "minutes")
    exclusive_default: ClassVar[float | None] = 10.0
    synonyms: ClassVar[dict[str, str]] = {
        "max_seq_len": "sequence_length",
        "learning_rate": "optimizer.learning_rate",
        "weight_decay": "optimizer.weight_decay",
        "grad_clip": "optimizer.grad_clip",
        "warmup_steps": "schedule.warmup_steps",
        "min_lr": "schedule.min_lr",
        "lr_scheduler": "schedule.kind",
        "cache_dir": "data.cache_dir",
        "nproc": "distributed.nproc",
        "mix": "data.mix",
        "data.mix_pretrain": "data.mix",
        "data.val_pretrain_source": "data.validation",
        "early_stopping_patience": "early_stopping.patience",
        "early_stopping_min_delta": "early_stopping.min_delta",
        "evaluation.generation.max_length": "evaluation.generation.max_tokens",
    }

    profile: str | None = Field(
        default=None, description="Named settings, beneath those of the file: a name of `lifelong profiles`."
    )
    preset: str = Field(default="tiny", description="Shape of a new model: a name of `lifelong presets`, or a file.")
    phase: Literal["pretrain", "sft", "mlm", "seq2seq"] = Field(
        default="pretrain",
        description="pretrain: all of the text; sft: the assistant's turns of conversations; "
        "mlm: hidden tokens, with a model that reads in both directions; seq2seq: an encoder-decoder model writes the "
        "answers of conversations, or the gaps of text.",
    )
    domain: FolderName | None = Field(default=None, description="Name of this body of knowledge.")
    epochs: float | None = Field(default=None, gt=0, description="Passes over the text (default: 10).")
    steps: int | None = Field(default=None, gt=0, description="Optimizer steps, instead of epochs.")
    minutes: float | None = Field(default=None, gt=0, description="Time to train, instead of epochs.")
    batch_size: int = Field(default=8, gt=0, description="Rows in one forward pass.")
    gradient_accumulation_steps: int = Field(default=1, gt=0, description="Forward passes in one optimizer step.")
    sequence_length: int | None = Field(default=None, gt=0, description="Tokens in a row (default: the model's).")
    replay: float = Field(default=0.0, ge=0, lt=1, description="Share of rows drawn from earlier text.")
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Share of activations left out while training (default: the preset's)."
    )
    seed: int = Field(default=0, ge=0, description="Seed of weights, data order and dropout.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Precision = Field(default="auto", description="Type of matrix products; weights are always fp32.")
    compile: Switch = Field(default="auto", description="Compile the blocks; auto: where the run is long enough.")
    threads: int | None = Field(default=None, gt=0, description="CPU threads (default: all cores).")
    data: MixSettings = Field(default_factory=MixSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    distributed: DistributedSettings = Field(default_factory=DistributedSettings)
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings)
    early_stopping: EarlyStoppingSettings = Field(default_factory=EarlyStoppingSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
