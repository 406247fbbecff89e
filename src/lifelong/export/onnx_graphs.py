"""ONNX graphs of models that onnxruntime-genai's builder does not know, through torch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lifelong.model.base import LanguageModel

_SAMPLE = 5  # tokens of the example that is traced; no size is fixed by it


class _Decoder(nn.Module):
    """GPT-2 with keys and values as inputs and outputs."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Return logits (B, T, V), and keys and values (B, heads, past + T, C) of each layer, in turn."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        before, new = past[0].shape[2], input_ids.shape[1]
        places = torch.arange(before, before + new, device=input_ids.device)
        keys = torch.arange(before + new, device=input_ids.device)
        # What a token may look at: itself and what precedes it, of which nothing is padding.
        seen = (keys[None, :] <= places[:, None])[None, None] & (attention_mask[:, None, None, :] != 0)
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, before:]
        out = self.network(
            input_ids=input_ids, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
        )
        present = [tensor for layer in out.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return out.logits, *present


class _Encoder(nn.Module):
    """A bidirectional model: logits of every place, and the states they come from."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) and hidden states (B, T, C); padding is a segment of its own."""
        states = self.model.hidden(input_ids, segment_ids=-(attention_mask == 0).long())
        return self.model.lm_head(states), states


class _Reader(nn.Module):
    """T5's encoder."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states (B, S, C)."""
        states: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return states


class _Writer(nn.Module):
    """T5's decoder, which reads all that it has written anew at every step."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        logits: Tensor = self.network(
            encoder_outputs=(encoder_hidden_states,),
            attention_mask=encoder_attention_mask,
            decoder_input_ids=input_ids,
            use_cache=False,
        ).logits
        return logits


def write_decoder(model: LanguageModel, path: Path) -> int:
    """Write a GPT-2, and return the width of its heads.

    Inputs are ``input_ids`` (B, T), ``attention_mask`` (B, past + T), and for each layer ``past_key_values.N.key`` and
    ``.value`` (B, heads, past, width); outputs ``logits`` (B, T, V), ``present.N.key`` and ``.value``.
    """
    network = _network(model)
    raw = network.config
    layers, heads, size = raw.n_layer, raw.n_head, raw.n_embd // raw.n_head
    past = [torch.randn(2, heads, 3, size) for _ in range(2 * layers)]
    names = [f"{{}}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    batch, time, before = (torch.export.Dim(name) for name in ("batch", "time", "past"))
    _write(
        _Decoder(network),
        (torch.ones(2, _SAMPLE, dtype=torch.long), torch.ones(2, 3 + _SAMPLE, dtype=torch.long), *past),
        path,
        inputs=["input_ids", "attention_mask", *(name.format("past_key_values") for name in names)],
        outputs=["logits", *(name.format("present") for name in names)],
        shapes={
            "input_ids": {0: batch, 1: time},
            "attention_mask": {0: batch, 1: torch.export.Dim.AUTO},
            "past": tuple({0: batch, 2: before} for _ in past),
        },
    )
    return int(size)


def write_encoder(model: LanguageModel, path: Path) -> None:
    """Write a bidirectional model: ``input_ids`` and ``attention_mask`` (B, T) in, ``logits`` and ``states`` out."""
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", max=model.config.max_seq_len)
    ids = torch.ones(2, _SAMPLE, dtype=torch.long)
    _write(
        _Encoder(model),
        (ids, torch.ones_like(ids)),
        path,
        inputs=["input_ids", "attention_mask"],
        outputs=["logits", "states"],
        shapes={name: {0: batch, 1: time} for name in ("input_ids", "attention_mask")},
    )


def write_encoder_decoder(model: LanguageModel, encoder: Path, decoder: Path) -> None:
    """Write a T5 as two graphs: what reads (``states``), and what writes (``logits``)."""
    network = _network(model)
    batch, time, read = (torch.export.Dim(name) for name in ("batch", "time", "read"))
    ids = torch.ones(2, _SAMPLE, dtype=torch.long)
    _write(
        _Reader(network),
        (ids, torch.ones_like(ids)),
        encoder,
        inputs=["input_ids", "attention_mask"],
        outputs=["states"],
        shapes={name: {0: batch, 1: read} for name in ("input_ids", "attention_mask")},
    )
    _write(
        _Writer(network),
        (torch.ones(2, 4, dtype=torch.long), torch.ones_like(ids), torch.randn(2, _SAMPLE, network.config.d_model)),
        decoder,
        inputs=["input_ids", "encoder_attention_mask", "encoder_hidden_states"],
        outputs=["logits"],
        shapes={
            "input_ids": {0: batch, 1: time},
            "encoder_attention_mask": {0: batch, 1: read},
            "encoder_hidden_states": {0: batch, 1: read},
        },
    )


def _network(model: LanguageModel) -> Any:
    return model.__dict__["network"]


def _write(
    module: nn.Module, example: tuple[Any, ...], path: Path, *, inputs: list[str], outputs: list[str], shapes: Any
) -> None:
    """Trace a module and write the graph, its weights in ``PATH.data``."""
    said = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of the exporter, on operators that nothing here uses
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                example,
                path,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=True,
                verbose=False,
            )
    finally:
        logging.disable(level)
