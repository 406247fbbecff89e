"""`lifelong presets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit, print_table, spell_bytes


def presets(
    *,
    tokenizer: Annotated[Path | None, Parameter(help="Count with this tokenizer's vocabulary.")] = None,
    batch_size: Annotated[int, Parameter(help="Rows in one forward pass, for the memory to train.")] = 8,
    sequence_length: Annotated[int | None, Parameter(help="Tokens in a row (default: each model's longest).")] = None,
    as_json: AsJson = False,
) -> None:
    """Shapes of models: parameters, size on disk, and estimated memory to train (Muon, fp32) and to run."""
    from lifelong.settings.presets import list_presets, run_memory_bytes, train_memory_bytes, weight_bytes

    vocab_size = None
    if tokenizer is not None:
        from lifelong.tokens.loading import load_tokenizer

        vocab_size = load_tokenizer(tokenizer).vocab_size
    found: list[dict[str, Any]] = []
    for preset in list_presets():
        config = preset.config(vocab_size)
        found.append(
            {
                "name": preset.name,
                "description": preset.description,
                "parameters": config.parameters,
                "vocab_size": config.vocab_size,
                "disk_bytes": weight_bytes(config),
                "disk_bytes_bf16": weight_bytes(config, 2),
                "train_memory_bytes": train_memory_bytes(config, batch_size, sequence_length),
                "run_memory_bytes": run_memory_bytes(config),
                "model": config.model_dump(mode="json"),
            }
        )

    def show() -> None:
        columns = ["preset", "weights", "disk", "to train", "to run", "made for"]
        rows = [
            [
                row["name"],
                f"{row['parameters'] / 1e6:,.1f} M",
                spell_bytes(row["disk_bytes"]),
                spell_bytes(row["train_memory_bytes"]),
                spell_bytes(row["run_memory_bytes"]),
                row["description"],
            ]
            for row in found
        ]
        print_table(columns, rows)
        counted = f"a vocabulary of {vocab_size:,}" if vocab_size else "each preset's reference vocabulary"
        length = f"{sequence_length:,} tokens" if sequence_length else "the model's longest context"
        print(f"Weights counted with {counted}. Disk: fp32; bf16 takes half.")
        print(f"Memory to train (estimated): Muon, fp32, {batch_size} rows of {length} at a time;")
        print("Python and torch take about 250 MB more. See also --batch-size, --sequence-length.")

    emit(found, as_json=as_json, show=show)
