"""What a run would take, said before it is begun (``--dry-run``)."""

from __future__ import annotations

from lifelong.settings.model import ModelConfig
from lifelong.settings.presets import train_memory_bytes
from lifelong.train.job import Job

_PROCESS_BYTES = 250_000_000  # Python and torch by themselves


def forecast(job: Job, steps: int) -> list[str]:
    """Return lines on the tokens and the memory of a run, and its resolved settings."""
    settings, length = job.settings, job.loader.sequence_length
    tokens = steps * settings.batch_size * settings.gradient_accumulation_steps * length
    config = job.model.config
    if isinstance(config, ModelConfig):
        memory = train_memory_bytes(
            config,
            settings.batch_size,
            length,
            optimizer=settings.optimizer.name,
            precision="bf16" if job.bf16 else "fp32",
        )
        takes = f"about {(memory + _PROCESS_BYTES) / 1e9:.1f} GB of memory with Python and torch"
    else:  # what the layers of another family keep is not known: weights, gradients and two moments are
        takes = f"more than {(16 * config.parameters + _PROCESS_BYTES) / 1e9:.1f} GB of memory"
    return [
        f"{tokens:,} tokens at most; {takes}",
        "resolved settings:",
        *(f"  {line}" for line in settings.as_yaml().splitlines()),
    ]
