"""A Hugging Face directory in transformers, and an inference directory in lifelong itself."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from lifelong.evaluate.windows import IGNORED, Window
from lifelong.export.huggingface import ADAPTERS
from lifelong.export.runtimes import Runtime, Trained, Words, chosen, installed
from lifelong.export.source import CAUSAL, MASKED
from lifelong.generate.sampling import Sampling
from lifelong.model.directory import load_model
from lifelong.model.networks import quiet


@contextlib.contextmanager
def open_inference(path: Path) -> Iterator[Runtime]:
    """Load an inference directory as this package does."""
    yield Trained(*load_model(path, device="cpu", adapter=None))


@contextlib.contextmanager
def open_stock(path: Path, record: dict[str, Any], adapter: str | None = None) -> Iterator[Stock]:
    """Load a directory as transformers does, and an adapter beside it as peft does, with no code of ours."""
    import torch
    import transformers

    classes = {CAUSAL: "AutoModelForCausalLM", MASKED: "AutoModelForMaskedLM"}
    kind = getattr(transformers, classes.get(record["kind"], "AutoModelForSeq2SeqLM"))
    with quiet(), torch.inference_mode():
        network = kind.from_pretrained(path, local_files_only=True, dtype=torch.float32).eval()
        if adapter is not None:
            import peft

            network = peft.PeftModel.from_pretrained(network, path / ADAPTERS / adapter).eval()
        words = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        runtime = Stock(network, words, record)
        if adapter is not None:
            runtime.name += f", {installed('peft')}"
        yield runtime


class Stock:
    """A model and a tokenizer of transformers; see :class:`lifelong.export.runtimes.Runtime`."""

    def __init__(self, network: Any, words: Any, record: dict[str, Any]) -> None:
        self.name = installed("transformers")
        self.aside: Words | None = None
        self._network, self._words, self._record = network, words, record

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts."""
        found: list[list[int]] = self._words(list(texts), add_special_tokens=False)["input_ids"]
        return found

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each label."""
        import torch

        inputs: dict[str, Any] = {"input_ids": torch.tensor([window.inputs])}
        if self._record["kind"] not in (CAUSAL, MASKED):
            before = [self._record["start_id"], *window.labels[:-1]]
            inputs["decoder_input_ids"] = torch.tensor([before])
        return picked(self._network(**inputs).logits[0], window)

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield one token after another."""
        import torch

        past: Any = None

        def read(*tokens: int) -> Any:
            nonlocal past
            out = self._network(input_ids=torch.tensor([tokens]), past_key_values=past, use_cache=True)
            past = out.past_key_values
            return out.logits[:, -1]

        yield from chosen(read(*prompt), read, most, sampling, self._record["vocab_size"], ends, key, prompt)


def picked(logits: Any, window: Window) -> list[float]:
    """Return the negative log-probability of each counted label under logits (T, V), a tensor or an array."""
    import torch
    import torch.nn.functional as F

    places = [place for place, label in enumerate(window.labels) if label != IGNORED]
    labels = torch.tensor([window.labels[place] for place in places])
    scores = torch.as_tensor(logits)[places].float()
    losses: list[float] = F.cross_entropy(scores, labels, reduction="none").double().tolist()
    return losses
