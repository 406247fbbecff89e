"""Named model shapes, and what a model of a shape costs in disk and memory (no torch needed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lifelong.errors import LifelongError, suggest
from lifelong.settings.base import Settings
from lifelong.settings.load import load_settings, read_settings_file, validate
from lifelong.settings.model import ModelConfig

_FOLDER = Path(__file__).parent / "presets"

# What a process holds for activations on a CPU, as a multiple of what autograd keeps: working space, and memory that
# glibc's allocator does not give back. Measured 1.75 (tiny, 8 x 1024 tokens) to 2.5 (nano, 8 x 256) after three steps.
_HELD = 1.8


class Preset(Settings):
    """A model shape with a name; its parameters are counted at ``reference_vocab_size``."""

    name: str
    description: str = ""
    reference_vocab_size: int = Field(default=8000, gt=0)
    shape: dict[str, Any] = Field(alias="model")

    def config(self, vocab_size: int | None = None, **overrides: Any) -> ModelConfig:
        """Return the shape with a vocabulary (default: the reference) and other changes.

        Raises:
            LifelongError: a change names no field of `ModelConfig`, or the shape is impossible.
        """
        values = {**self.shape, "vocab_size": vocab_size or self.reference_vocab_size, **overrides}
        return validate(ModelConfig, values)


def list_presets() -> list[Preset]:
    """Return all presets that come with lifelong, smallest first."""
    presets = [load_settings(Preset, path) for path in _FOLDER.glob("*.yaml")]
    return sorted(presets, key=lambda preset: preset.config().parameters)


def load_preset(name: str | Path) -> Preset:
    """Return the preset called ``name``, or the one that a YAML or JSON file of the same form holds.

    Raises:
        LifelongError: there is none; or the file has a key or value that does not fit, named with its line.
    """
    path = _FOLDER / f"{name}.yaml"
    if str(name).endswith((".yaml", ".yml", ".json")):
        path = Path(name).expanduser()
    elif not path.is_file() or path.parent != _FOLDER:
        known = [preset.name for preset in list_presets()]
        raise LifelongError(
            f"unknown preset '{name}'.{suggest(str(name), known)}",
            fix=f"Presets: {', '.join(known)}; or a path to a YAML file. `lifelong presets` describes them.",
        )
    preset = load_settings(Preset, path)
    shape = {"vocab_size": preset.reference_vocab_size, **preset.shape}
    validate(ModelConfig, shape, read_settings_file(path), prefix="model.")  # now, while the lines are known
    return preset


def weight_bytes(config: ModelConfig, bytes_per_weight: int = 4) -> int:
    """Return the bytes of all weights: 4 each in fp32, 2 in bf16; the size on disk but for a few kilobytes."""
    return config.parameters * bytes_per_weight


def state_bytes(config: ModelConfig, optimizer: str = "muon") -> int:
    """Return the bytes that training cannot do without: fp32 weights, gradients and optimizer state.

    AdamW keeps two fp32 numbers a weight; Muon, which takes the matrices of the blocks, keeps one.
    """
    matrices = _matrix_parameters(config) if optimizer == "muon" else 0
    return 8 * config.parameters + 8 * (config.parameters - matrices) + 4 * matrices


def train_memory_bytes(
    config: ModelConfig, batch: int = 8, seq_len: int | None = None, *, optimizer: str = "muon", precision: str = "fp32"
) -> int:
    """Estimate the bytes needed to train: `state_bytes`, and what the forward pass leaves for the backward pass.

    Python and torch themselves take about 250 MB more.

    Args:
        config: the shape.
        batch: rows in one forward pass.
        seq_len: tokens in a row (default: the model's longest).
        optimizer: ``muon`` or ``adamw``.
        precision: of the matrix products, ``fp32`` or ``bf16``; norms and the residual stream stay fp32.
    """
    tokens = batch * (seq_len or config.max_seq_len)
    queries, keys = config.num_query_heads * config.head_dim, config.num_kv_heads * config.head_dim
    # Kept a token and block, counted with saved-tensor hooks: both norms' input, scaled input and output; queries and
    # keys before, within and after norm and rotation; values; the attention's output; four tensors of SwiGLU's width.
    if precision == "fp32":
        per_block, copies = 4 * (6 * config.d_model + 4 * queries + 4 * keys + 4 * config.d_ff), 0
    else:
        per_block = 22 * config.d_model + 16 * queries + 12 * keys + 8 * config.d_ff
        copies = 2 * _matrix_parameters(config)
    output = 8 * tokens * config.d_model + 4 * config.vocab_size * config.d_model  # gradients made with the loss
    return state_bytes(config, optimizer) + copies + output + round(_HELD * tokens * config.num_layers * per_block)


def run_memory_bytes(config: ModelConfig, seq_len: int | None = None, *, bytes_per_weight: int = 4) -> int:
    """Estimate the bytes needed to write text: the weights, and keys and values of a full context."""
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    return (config.parameters + per_token * (seq_len or config.max_seq_len)) * bytes_per_weight


def _matrix_parameters(config: ModelConfig) -> int:
    queries, keys = config.num_query_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return config.num_layers * config.d_model * (2 * queries + 2 * keys + 3 * config.d_ff)
