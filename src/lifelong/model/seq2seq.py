"""Encoder-decoder models: T5 as `transformers` computes it, behind the interface of our own models.

What is read and what is written are two texts: ``input_ids`` (B, S) go into the encoder, ``labels`` (B, T) are what the
decoder has to write, from its first token on. ``segment_ids`` (B, S) are -1 on padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lifelong.errors import LifelongError
from lifelong.model.foreign import ForeignConfig, ForeignModel
from lifelong.model.networks import load_network
from lifelong.model.t5 import MODEL_TYPE, new_network, sized_like, t5_config
from lifelong.settings.load import validate
from lifelong.settings.model import ModelConfig
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.rows import IGNORE
from lifelong.tokens.spans import SENTINELS, find_sentinels

_ROWS = 512  # tokens that T5 was trained with, where a file says nothing
_PROMPTS, _GAP = "lifelong_prompts", "lifelong_gap_token_id"
Prompts = Literal["plain", "spans", "chat"]


@dataclass(frozen=True)
class EncoderDecoderConfig(ForeignConfig):
    """What an encoder-decoder model is, as the rooms above ask."""

    causal: bool = False

    @property
    def prompts(self) -> Prompts:
        """How a prompt is put to the model: as it is; with a gap to fill behind it; or as a user's turn.

        The last training decides: span corruption, or conversations.
        """
        found: Prompts = self.raw.get(_PROMPTS, "plain")
        return found

    @property
    def start_id(self) -> int:
        """The token that stands before the first of the decoder's."""
        return int(self.raw["decoder_start_token_id"])

    @property
    def gap_id(self) -> int:
        """The first sentinel, where prompts have a gap behind them."""
        return int(self.raw[_GAP])

    def to_huggingface(self, special_ids: dict[str, int]) -> dict[str, Any]:
        """Return the content of ``config.json``; the special tokens of a model made elsewhere stay its own."""
        own = {key: self.raw[key] for key in special_ids if self.raw.get(key) is not None}
        return super().to_huggingface({**special_ids, **own})

    def generation(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """Return the content of ``generation_config.json``."""
        return {
            "decoder_start_token_id": self.start_id,
            "eos_token_id": sorted({int(self.raw["eos_token_id"]), tokenizer.eos_id, tokenizer.end_of_turn_id}),
            "pad_token_id": int(self.raw["pad_token_id"]),
        }

    def require_causal(self, doing: str) -> None:
        """Raise LifelongError: what ``doing`` names is for models that go on with what they read."""
        raise LifelongError(
            f"an encoder-decoder model reads one text and writes another: it cannot {doing}",
            fix="Use a model of --phase pretrain or sft.",
        )

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations to train on one token, which passes the encoder or the decoder: half the model."""
        return super().flops_per_token(sequence_length) / 2


@dataclass
class _Written:
    """What generation keeps: the encoder's states, and keys and values of what is written."""

    states: Tensor | None = None
    cache: Any = None


class EncoderDecoderModel(ForeignModel):
    """A T5 (Raffel et al. 2020, arXiv:1910.10683; the gated feed-forward of Shazeer 2020, arXiv:2002.05202).

    Args:
        config: a mapping: T5's ``config.json``, or a shape with the names of `ModelConfig`, where
            ``"model_type": "transformer"`` is understood and ``num_layers`` counts each stack.

    Raises:
        LifelongError: a name or a value does not fit.
    """

    config: EncoderDecoderConfig

    def __init__(self, config: Mapping[str, Any], network: Any = None) -> None:
        raw = dict(config)
        if raw.get("model_type") != MODEL_TYPE:
            kind = raw.pop("model_type", "transformer")
            if kind not in ("transformer", "encoder_decoder"):
                raise LifelongError(f"'{kind}' is no encoder-decoder model", where="config: model_type")
            shape = validate(ModelConfig, raw)
            raw = t5_config(shape, shape.num_layers)
        super().__init__(new_network(raw, device="cpu") if network is None else network, raw)

    def _describe(self) -> None:
        raw = self.config.raw
        found = {item.name: getattr(self.config, item.name) for item in fields(ForeignConfig)}
        found |= {"causal": False, "max_seq_len": int(raw.get("n_positions") or _ROWS)}
        self.config = EncoderDecoderConfig(**found)

    def _probe(self) -> None:
        self._describe()

    def use_prompts(self, prompts: Prompts, tokenizer: Tokenizer) -> None:
        """Record how prompts are to be put to the model from now on."""
        own = {_PROMPTS: prompts, _GAP: int(find_sentinels(tokenizer)[0])}
        self.config = replace(self.config, raw={**self.config.raw, **own})

    def fit(self, tokenizer: Tokenizer) -> str | None:
        """Take over a tokenizer's special tokens, and make room for its sentinels; returns what was done.

        Raises:
            LifelongError: the model's embedding is smaller than the vocabulary.
        """
        end = tokenizer.eos_id
        if self.config.raw.get("pad_token_id") is None:
            own = {"pad_token_id": end, "eos_token_id": end, "decoder_start_token_id": end}
            self.config = replace(self.config, raw={**self.config.raw, **own})
            for name, value in own.items():
                setattr(self._network.config, name, value)
        wanted = int(find_sentinels(tokenizer).max()) + 1
        if wanted <= self.config.vocab_size:
            return None
        if tokenizer.vocab_size > self.config.vocab_size:
            raise LifelongError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {self.config.vocab_size}",
                fix='Make the model with "vocab_size": tokenizer.vocab_size.',
            )
        added = wanted - self.config.vocab_size
        self.widen(wanted)
        return f"The embedding got {added} more rows, for sentinels."

    def widen(self, vocab_size: int) -> None:
        """Give the embeddings rows up to ``vocab_size``, each the mean of those there are."""
        super().widen(vocab_size)
        self._describe()

    def hidden(self, input_ids: Tensor, *, segment_ids: Tensor | None = None) -> Tensor:
        """Return the encoder's states (B, S, C) of token ids (B, S)."""
        states: Tensor = self._network.encoder(input_ids=input_ids, attention_mask=_mask(segment_ids))[0]
        return states

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        """Return logits: of decoder tokens (B, T, V) where they are given, else the encoder's states (B, S, C)."""
        if decoder_input_ids is None:
            states: Tensor = self._network.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
            return states
        logits: Tensor = self._network(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
        ).logits
        return logits

    def _label_logits(self, input_ids: Tensor, labels: Tensor, segment_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits and labels without the columns in which no row has anything."""
        mask = _mask(segment_ids)
        if mask is not None:
            input_ids, mask = (part[:, : _width(mask)] for part in (input_ids, mask))
        labels = labels[:, : _width(labels != IGNORE)]
        start = torch.full_like(labels[:, :1], self.config.start_id)
        before = torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1)
        return self(input_ids, mask, before), labels

    def loss_sum(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the summed cross-entropy in nats of labels (B, T) that are not -100, given ``input_ids`` (B, S)."""
        logits, counted = self._label_logits(input_ids, labels, segment_ids)
        losses = F.cross_entropy(logits.float().mT, counted, reduction="none")
        return (losses if weights is None else losses * weights[:, : losses.shape[1]]).sum()

    @torch.no_grad()
    def token_losses(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return each label's cross-entropy (B, T) in nats, 0 where it is -100, and whether it was the likeliest."""
        logits, counted = self._label_logits(input_ids, labels, segment_ids)
        losses = torch.zeros(labels.shape, device=labels.device)
        correct = torch.zeros(labels.shape, device=labels.device, dtype=torch.bool)
        width = counted.shape[1]
        losses[:, :width] = F.cross_entropy(logits.float().mT, counted, reduction="none")
        correct[:, :width] = (logits.argmax(-1) == counted) & (counted != IGNORE)
        return losses, correct

    def new_cache(self, batch: int, max_len: int) -> _Written:
        """Return what `next_logits` keeps; the first tokens it is given are what the encoder reads."""
        return _Written()

    def next_logits(self, input_ids: Tensor, cache: _Written) -> Tensor:
        """Return the logits (B, V) of the next token that the decoder writes; see `new_cache`."""
        if cache.states is None:
            from transformers import DynamicCache, EncoderDecoderCache

            cache.states = self.hidden(input_ids)
            cache.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            input_ids = torch.full_like(input_ids[:, :1], self.config.start_id)
            if self.config.prompts == "spans":  # the gap behind the prompt is to be filled
                input_ids = torch.cat([input_ids, torch.full_like(input_ids, self.config.gap_id)], dim=1)
        logits: Tensor = self._network(
            encoder_outputs=(cache.states,), decoder_input_ids=input_ids, past_key_values=cache.cache, use_cache=True
        ).logits[:, -1]
        if self.config.prompts == "spans":  # whatever gap would come next, this one is filled
            end, first = int(self.config.raw["eos_token_id"]), self.config.gap_id
            ends = [end, *range(first + 1 - len(SENTINELS), first + 1)]
            logits[:, end] = logits[:, ends].logsumexp(1)
            logits[:, ends[1:]] = -torch.inf
        return logits

    def keep_rows(self, cache: _Written, rows: Tensor) -> None:
        """Keep only some rows of a cache; see `ForeignModel.keep_rows`."""
        assert cache.states is not None
        cache.states = cache.states[rows]
        cache.cache.batch_select_indices(rows)

    def prompt_ids(self, tokenizer: Tokenizer, prompt: str) -> list[int]:
        """Return what the encoder reads for a prompt; see `EncoderDecoderConfig.prompts`."""
        if self.config.prompts == "chat":
            return tokenizer.encode_chat([{"role": "user", "content": prompt}], add_generation_prompt=True)[0]
        gap = [self.config.gap_id] if self.config.prompts == "spans" else []
        return [*tokenizer.encode(prompt), *gap, tokenizer.eos_id]


def new_encoder_decoder(shape: ModelConfig, tokenizer: Tokenizer) -> EncoderDecoderModel:
    """Return a new model of about the size of ``shape``, with the tokenizer's special tokens and sentinels."""
    end = tokenizer.eos_id
    special = {"pad_token_id": end, "eos_token_id": end, "decoder_start_token_id": end}
    wanted = max(tokenizer.vocab_size, int(find_sentinels(tokenizer).max()) + 1)
    shape = shape.model_copy(update={"vocab_size": wanted})
    return EncoderDecoderModel(t5_config(shape, sized_like(shape), special))


def load_encoder_decoder(place: Path, raw: dict[str, Any]) -> tuple[EncoderDecoderModel, list[str]]:
    """Load the T5 in a directory; returns it, and what of its file was not used.

    Raises:
        LifelongError: weights are missing, damaged or of another shape.
    """
    network, notes = load_network(place, new_network(raw, where=str(place / "config.json")))
    return EncoderDecoderModel(raw, network), notes


def _mask(segment_ids: Tensor | None) -> Tensor | None:
    return None if segment_ids is None else (segment_ids >= 0).long()


def _width(used: Tensor) -> int:
    """Return the columns up to the last in which any row has something; at least one."""
    columns = used.bool().any(0).nonzero()
    return int(columns[-1]) + 1 if len(columns) else 1
