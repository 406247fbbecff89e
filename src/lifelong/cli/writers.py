"""What `generate`, `chat` and `serve` write with: a model here, or an export in its own program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from lifelong.generate.elsewhere import Elsewhere
    from lifelong.generate.manners import Manners
    from lifelong.model.base import LanguageModel
    from lifelong.settings.generate import DrawingSettings, SamplingSettings
    from lifelong.tokens.base import Tokenizer

_RECORD = "export.json"  # an export has it, a model directory has not


def runs_elsewhere(path: Path, settings: DrawingSettings) -> bool:
    """Return whether what lies at ``path`` is an export that a program of its own runs.

    Raises:
        LifelongError: the engine asked for runs something else, or an export is asked for another precision or device.
    """
    if settings.engine not in ("onnx", "gguf") and not (path / _RECORD).is_file():
        return False
    from lifelong.export.engines import engine_of

    if engine_of(path, settings.engine) == "torch":
        return False
    if settings.device not in ("auto", "cpu"):
        raise LifelongError("an export computes where its own program does", where="device", fix="Leave --device out.")
    if settings.precision != "fp32":
        raise LifelongError(
            "an export computes in the precision that it was made in",
            where="precision",
            fix="Leave --precision out, or export the model anew (lifelong export --precision).",
        )
    return True


def open_writer(
    path: Path, settings: SamplingSettings, adapter: str
) -> tuple[LanguageModel | Elsewhere, Tokenizer, Manners]:
    """Load a model, or open an export; returns its tokenizer, too, and what is known of its conversations.

    Raises:
        LifelongError: there is neither, or the engine asked for runs something else.
    """
    if runs_elsewhere(path, settings):
        from lifelong.export.engines import open_export

        opened = open_export(path, adapter)
        return opened.model, opened.tokenizer, opened.manners
    from lifelong.generate.manners import read_manners
    from lifelong.model.directory import find_model, load_model

    model, tokenizer = load_model(path, device=settings.device, adapter=adapter)
    model.set_precision(settings.precision)
    return model, tokenizer, read_manners(find_model(path), tokenizer)
