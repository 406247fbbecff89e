"""Texts that the model writes while it is trained: ``samples.jsonl`` of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from lifelong import progress
from lifelong.generate.engine import generate
from lifelong.model.base import LanguageModel
from lifelong.settings.watching import SamplesSettings
from lifelong.tokens.base import Tokenizer


class Sampler:
    """Continues the prompts of the settings, with the same draws at every measure: what differs is the weights.

    Nothing here touches torch's own random state, so a run with samples ends in the weights of one without.
    """

    def __init__(
        self, file: Path, model: LanguageModel, tokenizer: Tokenizer, settings: SamplesSettings, *, seed: int
    ) -> None:
        self._file, self._model, self._tokenizer, self._seed = file, model, tokenizer, seed
        self._prompts = settings.prompts or ("",)
        self._sampling = settings.sampling()
        most = model.config.max_seq_len // 2
        if settings.max_tokens > most:
            progress.note(f"note: samples are cut to {most} tokens, half of the model's context")
            self._sampling["max_tokens"] = most

    def write(self, step: int) -> Iterator[tuple[str, int, str]]:
        """Append a line for each sample: ``{"step", "prompt", "sample", "text"}``; yields (prompt, number, text)."""
        found = []
        # Compiled blocks are compiled for the shapes of training; each length of a sample would compile them again.
        with torch.compiler.set_stance("force_eager"):
            for prompt in self._prompts:
                texts = generate(
                    self._model, self._tokenizer, prompt, seed=self._seed, on_note=progress.note, **self._sampling
                )
                found += [(prompt, number, text) for number, text in enumerate(texts, start=1)]
        with self._file.open("a", encoding="utf-8") as handle:
            for prompt, number, text in found:
                row = {"step": step, "prompt": prompt, "sample": number, "text": text}
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        yield from found
