"""What a run would take, said before it is begun (``--dry-run``)."""

from __future__ import annotations

from lifelong.settings.model import ModelConfig
from lifelong.settings.presets import train_memory_bytes
from lifelong.train.job import Job

_PROCESS_BYTES = 250_000_000  # Python and torch by themselves


def forecast(job: Job, steps: int) -> list[str]:
    """Return lines on the tokens and the memory of a run, and its resolved settings."""
    settings, length = job.settings, job.loader.sequence_length
    rows, processes = settings.batch_size * settings.gradient_accumulation_steps, job.world.size
    tokens = steps * rows * length
    config = job.model.config
    if isinstance(config, ModelConfig):
        memory = train_memory_bytes(
            config,
            min(settings.batch_size, -(-rows // processes)),
            length,
            optimizer=settings.optimizer.name,
            precision=job.precision,
        )
        takes = f"about {(memory + _PROCESS_BYTES) / 1e9:.1f} GB of memory with Python and torch"
    else:  # what the layers of another family keep is not known: weights, gradients and two moments are
        takes = f"more than {(16 * config.parameters + _PROCESS_BYTES) / 1e9:.1f} GB of memory"
    each = f" in each of {processes} processes" if processes > 1 else ""
    each += ", less where the model is in shards" if settings.distributed.strategy == "fsdp" and processes > 1 else ""
    return [
        f"{tokens:,} tokens at most; {takes}{each}",
        "resolved settings:",
        *(f"  {line}" for line in settings.as_yaml().splitlines()),
    ]
