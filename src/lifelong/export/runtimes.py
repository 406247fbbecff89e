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
from lifelong.generate.stream import TextStream
from lifelong.model.base import LanguageModel
from lifelong.tokens.base import Tokenizer

RECORD = "export.json"  # what an export says of itself


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; see :func:`lifelong.generate.sampling.sample_next`."""

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.9
    seed: int | None = None


GREEDY = Sampling(temperature=0.0)


class Runtime(Protocol):
    """A model in some program.

    Attributes:
        name: the program and its version.
    """

    name: str

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that the program gives texts, none of them a special token's."""
        ...

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability (nats) of each label of a window that is not ignored."""
        ...

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, *, ends: Collection[int], banned: Collection[int] = ()
    ) -> Iterator[int]:
        """Yield one token after another, without end or until one of ``ends``, which is not yielded."""
        ...


def generate(
    runtime: Runtime,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    max_tokens: int,
    sampling: Sampling,
    on_text: Callable[[str], None] | None = None,
    *,
    banned: Collection[int] = (),
) -> str:
    """Return what a runtime writes after a prompt, without it: until the end of text or turn, or ``max_tokens``.

    ``on_text`` is called with pieces of the text as they are written, never with a part of a character.
    """
    ends = {tokenizer.eos_id, tokenizer.end_of_turn_id}
    text = TextStream(tokenizer, on_text)
    for token in first(runtime.stream(prompt_ids, sampling, ends=ends, banned=banned), max_tokens):
        text.add(token)
    return text.finish()


def first(tokens: Iterator[int], count: int) -> Iterator[int]:
    """Yield at most ``count`` tokens, and compute none beyond them."""
    for _ in range(count):
        token = next(tokens, None)
        if token is None:
            return
        yield token


class Trained:
    """The model as it was trained, computed here."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.name = "lifelong"
        self._model, self._tokenizer = model, tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts."""
        return self._tokenizer.encode_batch(texts)

    def losses(self, window: Window) -> list[float]:
        """Return the negative log-probability of each label."""
        import torch

        found, _ = self._model.token_losses(torch.tensor([window.inputs]), torch.tensor([window.labels]))
        return counted(found[0].double().tolist(), window)

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, *, ends: Collection[int], banned: Collection[int] = ()
    ) -> Iterator[int]:
        """Yield one token after another, to the end of the context."""
        import torch

        from lifelong.generate.inference import inference

        limit = self._model.config.max_seq_len
        draw = chooser(sampling, banned)
        with inference(self._model):
            cache = self._model.new_cache(1, limit)
            read = list(prompt)
            for _ in range(limit - len(prompt)):
                token = draw(self._model.next_logits(torch.tensor([read]), cache)[:, : self._tokenizer.vocab_size])
                if token in ends:
                    return
                yield token
                read = [token]


def chooser(sampling: Sampling, banned: Collection[int]) -> Callable[[Any], int]:
    """Return a function that draws a token from logits (1, V), an array or a tensor."""
    import torch

    from lifelong.generate.sampling import sample_next

    generator = None if sampling.seed is None else torch.Generator().manual_seed(sampling.seed)

    def draw(logits: Any) -> int:
        return int(
            sample_next(
                torch.as_tensor(logits),
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                banned=banned,
                generator=generator,
            )
        )

    return draw


def counted(losses: Sequence[float], window: Window) -> list[float]:
    """Return the losses at the labels that are not ignored."""
    return [loss for loss, label in zip(losses, window.labels, strict=True) if label != IGNORED]


@dataclass(frozen=True)
class Missing:
    """A runtime that is not installed: its package, and the command that brings it."""

    package: str
    install: str


def missing_runtime(record: dict[str, Any]) -> Missing | None:
    """Return what an export's own program lacks here, or None."""
    from importlib.util import find_spec

    packages = {
        "gguf": ("xllamacpp", "lifelong[gguf]"),
        "onnx": ("onnxruntime", "lifelong[onnx]"),
        "huggingface": ("transformers", "lifelong[hub]"),
    }
    if record["to"] not in packages:
        return None
    package, extra = packages[record["to"]]
    return None if find_spec(package) else Missing(package, f"pip install '{extra}'")


def open_runtime(path: Path, *, threads: int | None = None) -> AbstractContextManager[Runtime]:
    """Open an export in the program that it is for.

    Args:
        path: the directory that ``lifelong export`` wrote.
        threads: to compute with; the program's own choice by default.

    Raises:
        LifelongError: it is no export, or its program is not installed.
    """
    record = read_record(path)
    if lacking := missing_runtime(record):
        raise LifelongError(f"{lacking.package} is not installed", where=str(path), fix=lacking.install)
    if record["to"] == "gguf":
        from lifelong.export.llama_cpp import open_llama_cpp

        return open_llama_cpp(path / record["file"], threads=threads)
    if record["to"] == "onnx":
        from lifelong.export.onnx_runtime import open_onnx

        return open_onnx(path, record, threads=threads)
    from lifelong.export.stock import open_inference, open_stock

    return open_stock(path, record) if record["to"] == "huggingface" else open_inference(path)


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
