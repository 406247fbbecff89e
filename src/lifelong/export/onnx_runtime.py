"""ONNX exports in onnxruntime, their words by `tokenizers`; aside, those of onnxruntime-genai."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lifelong.errors import LifelongError
from lifelong.evaluate.windows import Window
from lifelong.export.runtimes import Runtime, Words, chosen, installed
from lifelong.export.source import CAUSAL, MASKED
from lifelong.export.stock import picked
from lifelong.generate.sampling import Sampling
from lifelong.tokens.base import JSON


@contextlib.contextmanager
def open_onnx(path: Path, record: dict[str, Any], *, threads: int | None = None) -> Iterator[Runtime]:
    """Load the graphs of an export."""
    words, aside = _words(path), _genai_words(path, record)
    if record["kind"] == CAUSAL:
        yield OnnxDecoder(_session(path / record["file"], threads), words, aside, record)
    elif record["kind"] == MASKED:
        yield OnnxEncoder(_session(path / record["file"], threads), words)
    else:
        pair = [_session(path / record[key], threads) for key in ("file", "decoder")]
        yield OnnxEncoderDecoder(pair[0], pair[1], words, record)


def _session(file: Path, threads: int | None) -> Any:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise LifelongError(f"onnxruntime does not load the file: {error}", where=str(file)) from None


def _words(path: Path) -> Words:
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(str(path / JSON))

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in library.encode_batch(list(texts), add_special_tokens=False)]

    return Words(f"{installed('onnxruntime')}, {installed('tokenizers')}", encode)


def _genai_words(path: Path, record: dict[str, Any]) -> Words | None:
    """Return the tokenizer of onnxruntime-genai, where it made the graph: it reads the file in its own way."""
    from importlib.util import find_spec

    if not record["genai"] or find_spec("onnxruntime_genai") is None:
        return None
    return Words(installed("onnxruntime-genai"), partial(_genai_encode, path))


def _genai_encode(path: Path, texts: Sequence[str]) -> list[list[int]]:
    import onnxruntime_genai

    try:
        genai = onnxruntime_genai.Tokenizer(onnxruntime_genai.Model(str(path)))
        return [[int(token) for token in genai.encode(text)] for text in texts]
    except (RuntimeError, OSError) as error:
        raise LifelongError(f"it cannot read this tokenizer: {error}") from None


class OnnxDecoder:
    """A causal graph with a key-value cache; see :class:`lifelong.export.runtimes.Runtime`."""

    def __init__(self, session: Any, words: Words, aside: Words | None, record: dict[str, Any]) -> None:
        self.name, self.encode, self.aside = words.name, words.encode, aside
        self._session, self._vocabulary = session, record["vocab_size"]
        self._past = [item for item in session.get_inputs() if item.name.startswith("past")]
        self._width = record["head_size"]

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each label."""
        logits, _ = self._read(window.inputs, None)
        return picked(logits[0], window)

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield one token after another."""
        past: list[Any] | None = None

        def read(*tokens: int) -> Any:
            nonlocal past
            logits, past = self._read(tokens, past)
            return logits[:, -1]

        yield from chosen(read(*prompt), read, most, sampling, self._vocabulary, ends, key, prompt)

    def _read(self, ids: Sequence[int], past: list[Any] | None) -> tuple[Any, list[Any]]:
        if past is None:
            past = [np.zeros((1, item.shape[1], 0, self._width), dtype=np.float32) for item in self._past]
        seen = past[0].shape[2] + len(ids)
        inputs = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, seen), dtype=np.int64),
            **{item.name: tensor for item, tensor in zip(self._past, past, strict=True)},
        }
        names = ["logits", *(item.name.replace("past_key_values", "present") for item in self._past)]
        logits, *present = self._session.run(names, inputs)
        return logits, present


class OnnxEncoder:
    """A bidirectional graph: it tells hidden tokens, and writes nothing."""

    def __init__(self, session: Any, words: Words) -> None:
        self.name, self.encode = words.name, words.encode
        self.aside: Words | None = None
        self._session = session

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each hidden token."""
        ids = np.array([window.inputs], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        return picked(self._session.run(["logits"], inputs)[0][0], window)

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield nothing."""
        return iter(())


class OnnxEncoderDecoder:
    """The two graphs of a T5: a prompt is what the first reads."""

    def __init__(self, encoder: Any, decoder: Any, words: Words, record: dict[str, Any]) -> None:
        self.name, self.encode = words.name, words.encode
        self.aside: Words | None = None
        self._encoder, self._decoder = encoder, decoder
        self._start, self._vocabulary = record["start_id"], record["vocab_size"]

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each label, given those before it."""
        states = self._states(window.inputs)
        return picked(self._logits([self._start, *window.labels[:-1]], states)[0], window)

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield one token after another."""
        states, written = self._states(prompt), [self._start]

        def read(token: int) -> Any:
            written.append(token)
            return self._logits(written, states)[:, -1]

        first = self._logits(written, states)[:, -1]
        yield from chosen(first, read, most, sampling, self._vocabulary, ends, key, ())

    def _states(self, ids: Sequence[int]) -> Any:
        row = np.array([ids], dtype=np.int64)
        return self._encoder.run(["states"], {"input_ids": row, "attention_mask": np.ones_like(row)})[0]

    def _logits(self, written: Sequence[int], states: Any) -> Any:
        inputs = {
            "input_ids": np.array([written], dtype=np.int64),
            "encoder_attention_mask": np.ones((1, states.shape[1]), dtype=np.int64),
            "encoder_hidden_states": states,
        }
        return self._decoder.run(["logits"], inputs)[0]
