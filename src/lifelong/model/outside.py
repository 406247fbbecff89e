"""Models made elsewhere: read, given the tokens of the chat format, and every change named."""

from __future__ import annotations

from pathlib import Path

import torch

from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.model.directory import CONFIG, find_model, read_model
from lifelong.model.encoder import build_model
from lifelong.model.foreign import ForeignModel
from lifelong.model.transformer import Transformer
from lifelong.model.weights import TORCH_WEIGHTS, WEIGHTS
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.imported import import_tokenizer
from lifelong.tokens.loading import load_tokenizer


def load_outside(path: Path, *, device: torch.device | None = None) -> tuple[LanguageModel, Tokenizer, list[str]]:
    """Load a model directory of whatever maker, with whatever tokenizer it has.

    Special tokens that its vocabulary lacks get the ids after it, and the embeddings rows for them. A new row is the
    mean of the rows there are: the probability of a new token then starts at or below the average one's, so the others'
    hardly change (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models").

    Returns:
        the model, its tokenizer, and what was added or changed, in sentences.

    Raises:
        LifelongError: files are missing or damaged, or the family is another.
    """
    place = find_model(path)
    model, notes = read_model(place)
    if not (place / WEIGHTS).is_file() and (place / TORCH_WEIGHTS).is_file():
        notes.append(f"of {TORCH_WEIGHTS} only the weights were read; nothing else in it was run")
    rows = model.config.vocab_size
    if not any((place / name).is_file() for name in ("tokenizer.json", "spm.model", "tokenizer.model")):
        raise LifelongError(
            "the model has no tokenizer.json and no spm.model",
            where=str(place),
            fix="Save the tokenizer there too: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIRECTORY).",
        )
    try:
        tokenizer = load_tokenizer(place)
    except LifelongError:  # it lacks tokens of the chat format
        tokenizer, more = import_tokenizer(place)
        notes += more
    if tokenizer.vocab_size > rows:
        added = tokenizer.vocab_size - rows
        if added > len(tokenizer.special.spellings):
            raise LifelongError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, {CONFIG} says {rows}",
                where=str(place),
                fix="This is another model's tokenizer: copy the right one.",
            )
        model = with_rows(model, tokenizer.vocab_size)
        notes.append(f"the embeddings got {added} more rows, each the mean of those there are")
    return model.to(device or "cpu"), tokenizer, notes


def with_rows(model: LanguageModel, vocab_size: int) -> LanguageModel:
    """Return the model with embeddings of ``vocab_size`` rows; new ones are the mean of the old."""
    if isinstance(model, ForeignModel):
        model.widen(vocab_size)
        return model
    assert isinstance(model, Transformer)
    wider = build_model(model.config.model_copy(update={"vocab_size": vocab_size}))
    state = model.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in state:
            old = state[name]
            new = old.mean(dim=0, keepdim=True).expand(vocab_size - old.shape[0], -1)
            state[name] = torch.cat([old, new])
    wider.load_state_dict(state)
    return wider
