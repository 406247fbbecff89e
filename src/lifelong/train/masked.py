"""Which kind of model a phase trains, a new one of it, and what is hidden from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.model.encoder import build_model
from lifelong.model.seq2seq import EncoderDecoderModel, new_encoder_decoder
from lifelong.settings.presets import load_preset
from lifelong.settings.train import TrainSettings
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.masking import Masking, find_mask
from lifelong.tokens.rows import RowSource
from lifelong.tokens.shards import Ids
from lifelong.train.seq2seq import gaps_of

_KINDS = {
    "causal": (("pretrain", "sft"), "reads from left to right"),
    "bidirectional": (("mlm",), "reads in both directions"),
    "encoder-decoder": (("seq2seq",), "reads one text and writes another"),
}


def new_model(settings: TrainSettings, tokenizer: Tokenizer) -> LanguageModel:
    """Return a new model of the preset's shape, bidirectional and with a mask token for ``--phase mlm``.

    For ``--phase seq2seq`` it is an encoder-decoder model of about as many parameters.

    Raises:
        LifelongError: the preset is unknown or of the other kind, or the tokenizer has no place for a mask token.
    """
    preset = load_preset(settings.preset)
    if settings.phase == "seq2seq":
        return new_encoder_decoder(preset.config(vocab_size=tokenizer.vocab_size), tokenizer)
    if settings.phase != "mlm":
        model = build_model(preset.config(vocab_size=tokenizer.vocab_size))
        check_phase(model, settings.phase, f"preset {preset.name}")
        return model
    mask = find_mask(tokenizer)
    size = max(tokenizer.vocab_size, mask + 1)
    return build_model(preset.config(vocab_size=size, causal=False, mask_token_id=mask))


def check_phase(model: LanguageModel, phase: str, where: str) -> None:
    """Raise LifelongError where a model cannot be trained further in a phase."""
    kind = _kind(model)
    phases, reads = _KINDS[kind]
    if phase not in phases:
        raise LifelongError(
            f"the model {reads}, and cannot be trained with --phase {phase}",
            where=where,
            fix=f"Train it with --phase {phases[0]}; or choose another --out, or begin anew with --fresh.",
        )


def _kind(model: LanguageModel) -> str:
    if isinstance(model, EncoderDecoderModel):
        return "encoder-decoder"
    return "causal" if model.config.causal else "bidirectional"


def hiding_of(
    model: LanguageModel, tokenizer: Tokenizer, settings: TrainSettings, sources: Sequence[RowSource]
) -> Callable[[Ids, Ids], tuple[Ids, Ids]] | None:
    """Return what makes ids and labels of rows, where labels are not the next tokens; see `Loader`."""
    if settings.phase == "seq2seq":
        return gaps_of(model, tokenizer, sources, settings.seed)
    masking = masking_of(model, tokenizer, settings)
    return None if masking is None else masking.hide


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
