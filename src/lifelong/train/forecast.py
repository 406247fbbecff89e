"""What a run would take, said before it is begun (``--dry-run``)."""

from __future__ import annotations

from lifelong.settings.presets import train_memory_bytes
from lifelong.train.job import Job

_PROCESS_BYTES = 250_000_000  # Python and torch by themselves


def forecast(job: Job, steps: int) -> list[str]:
    """Return lines on the tokens and the memory of a run, and its resolved settings."""
    settings, length = job.settings, job.loader.sequence_length
    tokens = steps * settings.batch_size * settings.gradient_accumulation_steps * length
    memory = train_memory_bytes(
        job.model.config,
        settings.batch_size,
        length,
        optimizer=settings.optimizer.name,
        precision=job.precision,
    )
    return [
        f"{tokens:,} tokens at most; about {(memory + _PROCESS_BYTES) / 1e9:.1f} GB of memory with Python and torch",
        "resolved settings:",
        *(f"  {line}" for line in settings.as_yaml().splitlines()),
    ]
