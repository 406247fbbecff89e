"""Exports in the programs that they are for, behind one small interface; and the trained model behind the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from lifelong.errors import LifelongError
from lifelong.evaluate.windows import IGNORED, Window
from lifelong.files import read_json
from lifelong.generate.sampling import Sampling, choose, penalise
from lifelong.model.base import LanguageModel
from lifelong.tokens.base import Tokenizer
from lifelong.train.detection import EXPORT_RECORD

RECORD = EXPORT_RECORD
TOKENIZER = "tokenizer"  # where a GGUF export keeps the tokenizer's own files, too


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Words:
    """A program's tokenizer: its name and version, and what gives the ids of texts."""

    name: str
    encode: Callable[[Sequence[str]], list[list[int]]]


class Runtime(Protocol):
    """A model in some program.

    Attributes:
        name: the program and its version.
        aside: another tokenizer that users of the program may come upon, and that may give other ids.
    """

    name: str
    aside: Words | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that the program gives texts, none of them a special token's."""
        ...

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability (nats) of each label of a window that is not ignored."""
        ...

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield one token after another, at most ``most``, until one of ``ends``, which is not yielded.

        Prompt and text together fit the context: the caller sees to it. ``key`` decides the draws; see
        `lifelong.generate.sampling.key_of`.
        """
        ...


class Trained:
    """The model as it was trained, computed here."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.name = "lifelong"
        self.aside: Words | None = None
        self._model, self._tokenizer = model, tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts."""
        return self._tokenizer.encode_batch(texts)

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each label."""
        import torch

        from lifelong.generate.inference import inference

        with inference(self._model):  # an adapter that was just attached would drop something out
            found, _ = self._model.token_losses(torch.tensor([window.inputs]), torch.tensor([window.labels]))
        return counted(found[0].double().tolist(), window)

    def stream(
        self, prompt: Sequence[int], most: int, sampling: Sampling, *, ends: Collection[int], key: int = 0
    ) -> Iterator[int]:
        """Yield one token after another."""
        import torch

        from lifelong.generate.inference import inference

        with inference(self._model):
            decoder = self._model.new_decoder(1, len(prompt) + most)
            first = decoder.read([list(prompt)])

            def read(token: int) -> Any:
                return decoder.step(torch.tensor([token]))[0]

            yield from chosen(first[0], read, most, sampling, self._tokenizer.vocab_size, ends, key, prompt)


def chosen(
    logits: Any,
    read: Callable[[int], Any],
    most: int,
    sampling: Sampling,
    vocab_size: int,
    ends: Collection[int],
    key: int,
    seen: Sequence[int],
) -> Iterator[int]:
    """Yield one token after another, chosen as `lifelong.generate.slots.Slots` does; see `Runtime.stream`.

    Args:
        logits: of what follows the prompt, (1, V), an array or a tensor.
        read: reads a token, and returns the logits of what follows.
        most: tokens at most.
        sampling: how tokens are chosen.
        vocab_size: of the tokenizer; the model may have more rows.
        ends: tokens that end the text.
        key: decides the draws.
        seen: what a repetition penalty counts beside the text itself.
    """
    import torch

    known = {token for token in seen if token < vocab_size}
    for number in range(most):
        scores = torch.as_tensor(logits)[:, :vocab_size].float().clone()
        if sampling.repetition_penalty != 1:
            penalise(scores[0], sorted(known), sampling.repetition_penalty)
        [token], _ = choose(scores, sampling, [key], [number])
        if token in ends:
            return
        yield token
        if number + 1 < most:
            known.add(token)
            logits = read(token)


def counted(losses: Sequence[float], window: Window) -> list[float]:
    """Return the losses at the labels that are not ignored."""
    return [loss for loss, label in zip(losses, window.labels, strict=True) if label != IGNORED]


@dataclass(frozen=True)
class Missing:
    """A package that is not installed, and the command that brings it."""

    package: str
    install: str


# What each target is run by.
_PACKAGES = {
    "gguf": Missing("xllamacpp", "pip install 'lifelong[gguf]'"),
    "onnx": Missing("onnxruntime", "pip install 'lifelong[onnx]'"),
    "huggingface": Missing("transformers", "pip install 'lifelong[hub]'"),
}
_PEFT = Missing("peft", "pip install peft")


def missing_runtime(record: dict[str, Any], *, adapter: bool = False) -> Missing | None:
    """Return what an export's own program lacks here, with an adapter over it or without; None: nothing."""
    from importlib.util import find_spec

    needed = [_PACKAGES[record["to"]]] if record["to"] in _PACKAGES else []
    if adapter and record["to"] == "huggingface":
        needed.append(_PEFT)
    return next((one for one in needed if find_spec(one.package) is None), None)


def open_runtime(
    path: Path, *, adapter: str | None = None, threads: int | None = None
) -> AbstractContextManager[Runtime]:
    """Open an export in the program that it is for.

    Args:
        path: the directory that ``lifelong export`` wrote.
        adapter: one of those that lie beside the weights, to be put over them.
        threads: to compute with; the program's own choice by default.

    Raises:
        LifelongError: it is no export, or its program is not installed.
    """
    record = read_record(path)
    if lacking := missing_runtime(record, adapter=adapter is not None):
        raise LifelongError(f"{lacking.package} is not installed", where=str(path), fix=lacking.install)
    assert adapter is None or adapter in record["adapters_beside"]
    if record["to"] == "gguf":
        from lifelong.export.llama_cpp import lora_name, open_llama_cpp

        over = [path / lora_name(adapter)] if adapter else []
        return open_llama_cpp(path / record["file"], threads=threads, adapters=over)
    if record["to"] == "onnx":
        from lifelong.export.onnx_runtime import open_onnx

        return open_onnx(path, record, threads=threads)
    from lifelong.export.stock import open_inference, open_stock

    return open_stock(path, record, adapter) if record["to"] == "huggingface" else open_inference(path)


def read_record(path: Path) -> dict[str, Any]:
    """Read what an export says of itself.

    Raises:
        LifelongError: the directory is no export.
    """
    if not (path / RECORD).is_file():
        raise LifelongError(
            f"this is no export: {RECORD} is missing", where=str(path), fix="`lifelong export MODEL --to … --out DIR`"
        )
    record: dict[str, Any] = read_json(path / RECORD)
    return record


def installed(package: str) -> str:
    """Return a package's name with its version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
