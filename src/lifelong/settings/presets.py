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

# Positions whose logits exist at one time while training; see `Transformer.token_losses`.
_LOGIT_CHUNK = 1024


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
    """Estimate the bytes needed to train: `state_bytes`, and what the backward pass keeps of the forward pass.

    Args:
        config: the shape.
        batch: rows in one forward pass.
        seq_len: tokens in a row (default: the model's longest).
        optimizer: ``muon`` or ``adamw``.
        precision: type of the kept activations, ``fp32`` or ``bf16``.
    """
    tokens = batch * (seq_len or config.max_seq_len)
    width = 4 if precision == "fp32" else 2
    queries, keys = config.num_query_heads * config.head_dim, config.num_kv_heads * config.head_dim
    # Kept a token and block: the residual stream twice, two normed inputs, queries and keys before and after their
    # norm and rotation, values, the attention's output, and four tensors of SwiGLU's width.
    per_block = 4 * config.d_model + 4 * queries + 4 * keys + 4 * config.d_ff
    logits = 2 * 4 * min(tokens, _LOGIT_CHUNK) * config.vocab_size
    return state_bytes(config, optimizer) + tokens * config.num_layers * per_block * width + logits


def run_memory_bytes(config: ModelConfig, seq_len: int | None = None, *, bytes_per_weight: int = 4) -> int:
    """Estimate the bytes needed to write text: the weights, and keys and values of a full context."""
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    return (config.parameters + per_token * (seq_len or config.max_seq_len)) * bytes_per_weight


def _matrix_parameters(config: ModelConfig) -> int:
    queries, keys = config.num_query_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return config.num_layers * config.d_model * (2 * queries + 2 * keys + 3 * config.d_ff)
