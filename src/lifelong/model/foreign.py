"""Causal models that `transformers` computes: GPT-2, OPT, GPT-NeoX, Qwen2, Gemma and whatever else it knows.

What a family can do is measured on a few tokens when it is loaded, not looked up by its name: whether its logits are a
plain matrix product, and whether a packed row can be read with a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lifelong.errors import LifelongError
from lifelong.model.base import LanguageModel
from lifelong.model.decoding import GroupDecoder

_CONTEXT = 2048  # of a model whose configuration names no limit


@dataclass(frozen=True)
class ForeignConfig:
    """What a model of `transformers` is, as the rooms above ask.

    Attributes:
        raw: its ``config.json`` as the maker wrote it; what is written again is this, so that every version of
            transformers that read it still does.
    """

    raw: dict[str, Any] = field(repr=False)
    vocab_size: int
    max_seq_len: int
    parameters: int
    embedding_parameters: int
    attention_width: int
    causal: bool = True
    mask_token_id: int | None = None
    dropout: float = 0.0  # the network's own configuration says

    def require_causal(self, doing: str) -> None:
        """Nothing to raise: a model that looks ahead is not loaded."""

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations to train on one token; see `ModelConfig.flops_per_token`."""
        return 6.0 * (self.parameters - self.embedding_parameters) + 6.0 * self.attention_width * sequence_length

    def to_huggingface(self, special_ids: dict[str, int]) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        kept = {key: value for key, value in self.raw.items() if key not in ("_name_or_path", "dtype")}
        kept.pop("quantization_config", None)
        own = {} if (pad := self.raw.get("pad_token_id")) is None else {"pad_token_id": pad}  # some embeddings skip it
        return {**kept, "vocab_size": self.vocab_size, "torch_dtype": "float32", **special_ids, **own}


class ForeignModel(LanguageModel):
    """A causal model of `transformers` behind the interface of our own.

    The network's children are registered as this module's, so that the state dict has the network's names and the
    files are a stock checkpoint.

    Args:
        network: an ``AutoModelForCausalLM``.
        raw: its ``config.json``.

    Raises:
        LifelongError: the network looks ahead, so it cannot write text.
    """

    config: ForeignConfig

    def __init__(self, network: Any, raw: dict[str, Any]) -> None:
        super().__init__()
        self.__dict__["network"] = network  # not a child: its children are
        for name, child in network.named_children():
            self.add_module(name, child)
        for layer in self._linear_layers():
            layer.add_module("adapter", None)
            layer.register_forward_hook(_with_adapter)
        self.config = describe(network, raw)
        network.config.pad_token_id = None  # else it warns of padding, which nothing here looks at
        self._plain, self._packs = True, True
        self._probe()

    @property
    def output_weight(self) -> Tensor:
        """The output layer's matrix (V, C)."""
        weight: Tensor = self._network.get_output_embeddings().weight
        return weight

    @property
    def plain_logits(self) -> bool:
        """Whether logits are a plain matrix product, as found out when the model was loaded."""
        return self._plain

    @property
    def tied_names(self) -> frozenset[str]:
        """Names of tensors that an earlier name in the state dict has, too: the output layer's, where it is tied."""
        first: dict[int, str] = {}
        state = self.state_dict(keep_vars=True)
        return frozenset(name for name, tensor in state.items() if first.setdefault(id(tensor), name) != name)

    @property
    def _network(self) -> Any:
        return self.__dict__["network"]

    def _linear_layers(self) -> Iterator[nn.Module]:
        from transformers.pytorch_utils import Conv1D

        output = self._network.get_output_embeddings()
        for module in self.modules():
            if isinstance(module, (nn.Linear, Conv1D)) and module is not output:
                yield module

    def train(self, mode: bool = True) -> ForeignModel:
        """Set the training mode, in which the dropout of the network's own configuration acts."""
        super().train(mode)
        self._network.training = mode  # the one module that is no child
        return self

    def hidden(self, input_ids: Tensor, *, segment_ids: Tensor | None = None) -> Tensor:
        """Return the final normed states (B, T, C); see `LanguageModel.hidden`."""
        return self._read(self._network.base_model, input_ids, segment_ids)

    def forward(self, input_ids: Tensor, *, segment_ids: Tensor | None = None) -> Tensor:
        """Return logits (B, T, V)."""
        return self._read(self._network, input_ids, segment_ids)

    def _read(self, part: Any, input_ids: Tensor, segment_ids: Tensor | None) -> Tensor:
        """Run the network or its backbone; each segment begins at position 0 and sees only itself."""
        out: Tensor
        if segment_ids is None:
            out = part(input_ids=input_ids, use_cache=False)[0]
            return out
        if self._packs:
            positions, mask = _packed(segment_ids)
            if self._network.config._attn_implementation == "eager":  # adds the mask to the scores
                lowest = torch.finfo(self.output_weight.dtype).min
                mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, lowest)
            out = part(input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False)[0]
            return out
        # A family that takes no such mask reads every segment as a row of its own.
        starts = _starts(segment_ids).flatten().nonzero().flatten().tolist()
        pieces = input_ids.flatten().tensor_split(starts[1:])
        rows = nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
        lengths = torch.tensor([len(piece) for piece in pieces], device=input_ids.device)
        own = torch.arange(rows.shape[1], device=input_ids.device) < lengths.unsqueeze(1)
        out = part(input_ids=rows, use_cache=False)[0]
        return out[own].view(*input_ids.shape, -1)

    def loss_sum(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the summed cross-entropy in nats; see `LanguageModel.loss_sum`."""
        if self._plain:
            return super().loss_sum(input_ids, labels, segment_ids=segment_ids, weights=weights)
        losses = self._losses(self(input_ids, segment_ids=segment_ids), labels)
        return (losses if weights is None else losses * weights).sum()

    @torch.no_grad()
    def token_losses(
        self, input_ids: Tensor, labels: Tensor, *, segment_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return each label's cross-entropy and whether it was the likeliest; see `LanguageModel.token_losses`."""
        if self._plain:
            return super().token_losses(input_ids, labels, segment_ids=segment_ids)
        logits = self(input_ids, segment_ids=segment_ids)
        chosen = logits.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        return self._losses(logits, labels), (chosen >= logits.amax(2)) & (labels != -100)

    @torch.no_grad()
    def sample_labels(
        self, input_ids: Tensor, *, segment_ids: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw a label (B, T) for every position; see `LanguageModel.sample_labels`."""
        if self._plain:
            return super().sample_labels(input_ids, segment_ids=segment_ids, generator=generator)
        logits = self(input_ids, segment_ids=segment_ids).float()
        return torch.multinomial(logits.flatten(0, 1).softmax(-1), 1, generator=generator).view_as(input_ids)

    @staticmethod
    def _losses(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float().mT, labels, reduction="none")

    def new_decoder(self, rows: int, length: int, experts: int = 1) -> GroupDecoder:
        """Return what reads texts side by side; see `LanguageModel.new_decoder`."""
        return GroupDecoder(self, length, experts)

    def new_cache(self, batch: int, max_len: int) -> Any:
        """Return transformers' cache of keys and values; of a model that keeps a state instead, the tokens so far."""
        from transformers import DynamicCache

        if getattr(self._network, "_is_stateful", False):
            return [torch.zeros(batch, 0, dtype=torch.long, device=self.device)]
        return DynamicCache(config=self._network.config)

    def next_logits(self, input_ids: Tensor, cache: Any) -> Tensor:
        """Return the logits (B, V) of the token after ``input_ids``, which follow those in ``cache``."""
        logits: Tensor
        if isinstance(cache, list):
            cache[0] = torch.cat([cache[0], input_ids], dim=1)
            logits = self(cache[0])[:, -1]
        else:
            logits = self._network(input_ids=input_ids, past_key_values=cache, use_cache=True).logits[:, -1]
        return logits

    def keep_rows(self, cache: Any, rows: Tensor) -> None:
        """Keep only some rows of a cache, by their numbers (rows,), in this order; the memory of the others is free."""
        if isinstance(cache, list):
            cache[0] = cache[0][rows]
        else:
            cache.batch_select_indices(rows)

    @torch.no_grad()
    def widen(self, vocab_size: int) -> None:
        """Give the embeddings rows up to ``vocab_size``, each the mean of those there are."""
        old = self.config.vocab_size
        self._network.resize_token_embeddings(vocab_size, mean_resizing=False)
        tables = {id(table): table for table in (self._network.get_input_embeddings().weight, self.output_weight)}
        bias = getattr(self._network.get_output_embeddings(), "bias", None)
        for table in [*tables.values(), *([] if bias is None else [bias])]:
            table[old:] = table[:old].mean(dim=0, keepdim=True)
        for name, child in self._network.named_children():
            self.add_module(name, child)
        self.config = describe(self._network, {**self.config.raw, "vocab_size": vocab_size})

    @torch.no_grad()
    def _probe(self) -> None:
        """Find out how this network can be used, with a few tokens."""
        was_training = self.training
        self.eval()
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(self.config.vocab_size, (1, 8), generator=draw).to(self.device)
        logits = self(ids)
        changed = self(torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % self.config.vocab_size], dim=1))
        if not _close(logits[:, :-1], changed[:, :-1], within=1e-5):  # the same sums in the same order
            raise LifelongError(
                f"this model ({self.config.raw.get('model_type')}) looks ahead: it is no causal language model",
                fix="Choose a causal model, such as gpt2.",
            )
        output = self._network.get_output_embeddings()
        states = self.hidden(ids)
        self._plain = states.shape[-1] == output.weight.shape[1] and _close(logits, states @ output.weight.T)
        # Beyond its window a layer must not look, which a mask of documents alone would let it.
        self._packs = not getattr(self._network.config, "sliding_window", None)
        segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]], device=self.device)
        alone = torch.cat([self(ids[:, :3]), self(ids[:, 3:])], dim=1)
        try:
            self._packs = self._packs and _close(self(ids, segment_ids=segments), alone)
        except (TypeError, ValueError, RuntimeError, IndexError):  # it takes no positions, or another kind of mask
            self._packs = False
        self.train(was_training)


def _with_adapter(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    adapter = layer.adapter
    return out + adapter(inputs[0]) if isinstance(adapter, nn.Module) else out


def _close(left: Tensor, right: Tensor, within: float = 1e-3) -> bool:
    return bool((left - right).abs().max() <= within * right.abs().max())


def _starts(segment_ids: Tensor) -> Tensor:
    """Return (B, T) where a segment begins."""
    first = torch.ones_like(segment_ids[:, :1], dtype=torch.bool)
    return torch.cat([first, segment_ids[:, 1:] != segment_ids[:, :-1]], dim=1)


def _packed(segment_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions (B, T) that restart with every segment, and a mask (B, 1, T, T), True where one may look."""
    index = torch.arange(segment_ids.shape[1], device=segment_ids.device).expand_as(segment_ids)
    start = torch.where(_starts(segment_ids), index, 0).cummax(dim=1).values
    same = segment_ids.unsqueeze(2) == segment_ids.unsqueeze(1)
    return index - start, same.tril().unsqueeze(1)


def describe(network: Any, raw: dict[str, Any]) -> ForeignConfig:
    """Return the facts of a network whose ``config.json`` is ``raw``."""
    config = network.config
    longest = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    table = network.get_input_embeddings().weight
    tied = network.get_output_embeddings().weight is table
    return ForeignConfig(
        raw=raw,
        vocab_size=table.shape[0],
        max_seq_len=longest if isinstance(longest, int) and longest > 0 else _CONTEXT,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        embedding_parameters=0 if tied else table.numel(),
        attention_width=int(getattr(config, "num_hidden_layers", 0) * getattr(config, "hidden_size", 0)),
    )
