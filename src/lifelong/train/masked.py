"""What masked-language-model training needs besides the loop: a bidirectional model, and tokens hidden from it."""

from __future__ import annotations

from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.model.encoder import build_model
from lifelong.settings.presets import load_preset
from lifelong.settings.train import TrainSettings
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.masking import Masking, find_mask


def new_model(settings: TrainSettings, tokenizer: Tokenizer) -> LanguageModel:
    """Return a new model of the preset's shape, bidirectional and with a mask token for ``--phase mlm``.

    Raises:
        LifelongError: the preset is unknown or of the other kind, or the tokenizer has no place for a mask token.
    """
    preset = load_preset(settings.preset)
    if settings.phase != "mlm":
        model = build_model(preset.config(vocab_size=tokenizer.vocab_size))
        check_phase(model, settings.phase, f"preset {preset.name}")
        return model
    mask = find_mask(tokenizer)
    size = max(tokenizer.vocab_size, mask + 1)
    return build_model(preset.config(vocab_size=size, causal=False, mask_token_id=mask))


def check_phase(model: LanguageModel, phase: str, where: str) -> None:
    """Raise LifelongError where a model cannot be trained further in a phase."""
    if model.config.causal == (phase != "mlm"):
        return
    if model.config.causal:
        raise LifelongError(
            "the model reads from left to right; --phase mlm trains one that reads in both directions",
            where=where,
            fix="Choose another --out, or begin anew with --fresh.",
        )
    raise LifelongError(
        f"the model reads in both directions, and cannot be trained with --phase {phase}",
        where=where,
        fix="Train it with --phase mlm; or choose another --out, or begin anew with --fresh.",
    )


def masking_of(model: LanguageModel, tokenizer: Tokenizer, settings: TrainSettings) -> Masking | None:
    """Return what hides tokens from a bidirectional model in training; None for a causal one.

    Raises:
        LifelongError: the model has no mask token.
    """
    if model.config.causal:
        return None
    if model.config.mask_token_id is None:
        raise LifelongError("the model has no mask token", fix="Begin anew: `lifelong train --phase mlm --fresh`.")
    return Masking.of(tokenizer, model.config.mask_token_id, settings.seed)
