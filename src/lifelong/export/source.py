"""What is exported: a model's weights with at most one adapter folded in, and those to lie beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import read_json
from lifelong.model.adapters import merge_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import adapter_path, check_adapter, find_model, fingerprint, load_model
from lifelong.model.experts import BASE
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.model.store import ModelStore
from lifelong.tokens.base import CONFIG, Tokenizer

CAUSAL, MASKED, WRITTEN = "causal", "masked", "encoder-decoder"


@dataclass
class Source:
    """A trained model, ready to be written.

    Attributes:
        place: its directory.
        model: on the CPU in fp32, with ``folded`` in its weights.
        tokenizer: the model's.
        folded: the adapter in the weights.
        beside: adapters that are not, and are to be laid beside them.
        notes: what the files of the model say and the export does not.
        state: ``lifelong/state.json``; empty of a stock directory.
    """

    place: Path
    model: LanguageModel
    tokenizer: Tokenizer
    folded: str | None
    beside: list[str]
    notes: list[str]
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the model does: ``causal``, ``masked`` or ``encoder-decoder``."""
        if isinstance(self.model, EncoderDecoderModel):
            return WRITTEN
        return CAUSAL if self.model.config.causal else MASKED

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.place.resolve().name

    def adapter_path(self, name: str) -> Path:
        """Return where an adapter lies."""
        return adapter_path(self.place, name)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights as they are exported, before rounding."""
        return fingerprint(self.model)


def open_source(path: Path, *, adapter: str | None, merged: bool, beside: bool) -> Source:
    """Load what is to be exported.

    Args:
        path: a model directory, a run, or a checkpoint.
        adapter: the one to fold into the weights; ``"base"`` for none.
        merged: fold the only one there is.
        beside: adapters that are not folded can lie beside the weights; where they cannot, and there is one, it is
            folded.

    Raises:
        LifelongError: there is no model or no such adapter, or several adapters and none is named.
    """
    place = find_model(path)
    store = ModelStore.open(place)
    names = store.adapters()
    if adapter is None and len(names) > 1 and (merged or not beside):
        raise LifelongError(
            f"the model has {len(names)} adapters, which cannot be merged as they are: {', '.join(names)}",
            where=str(place),
            fix="Name one (--adapter NAME), fold all into the weights first (lifelong consolidate MODEL), or take none "
            "(--adapter base).",
        )
    chosen = adapter or (names[0] if names and (merged or not beside) else None)
    if chosen == BASE:
        names, chosen = [], None
    for name in names if chosen is None else ():
        check_adapter(place, name)
    model, tokenizer = load_model(place, device="cpu", adapter=chosen)
    merge_adapter(model)
    config = read_json(place / CONFIG) if (place / CONFIG).is_file() else {}
    notes = []
    # A template is a program. What runs here, and is written, is the one that chats were encoded with, and no other.
    if config.get("chat_template") not in (None, tokenizer.special.chat_template):
        notes.append("the chat template in tokenizer_config.json is not that of its chats: it was neither run nor kept")
    return Source(place, model, tokenizer, chosen, names if chosen is None else [], notes, store.state())
