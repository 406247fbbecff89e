"""Writing text with an export, in the program that it is for: `--engine onnx|gguf`."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.export.runtimes import RECORD, TOKENIZER, Runtime, open_runtime, read_record
from lifelong.export.source import CAUSAL
from lifelong.generate.elsewhere import Elsewhere, Reach
from lifelong.generate.manners import Manners
from lifelong.generate.sampling import Sampling, key_of
from lifelong.generate.slots import Engine, Finish, Step
from lifelong.model.directory import find_model
from lifelong.model.experts import BASE, ROUTED
from lifelong.tokens.loading import load_tokenizer

if TYPE_CHECKING:
    from lifelong.tokens.base import Tokenizer


@dataclass(frozen=True)
class Opened:
    """An export that writes: as a model, its tokenizer, and what it knows of conversations."""

    model: Elsewhere
    tokenizer: Tokenizer
    manners: Manners


def engine_of(path: Path, wanted: str) -> str:
    """Return the engine for what lies at ``path``: ``torch``, or that of the export that it is.

    Args:
        path: a model or an export.
        wanted: ``auto``, ``torch``, ``onnx`` or ``gguf``.

    Raises:
        LifelongError: another engine is wanted than the one that runs this, or there is nothing to run.
    """
    target = read_record(path)["to"] if (path / RECORD).is_file() else "huggingface"
    fits = target if target in ("onnx", "gguf") else "torch"
    if wanted in ("auto", fits):
        return fits
    if fits == "torch":
        find_model(path)  # where there is none, that is what is wrong
        raise LifelongError(
            f"--engine {wanted} runs an export, and this is a model directory",
            where=str(path),
            fix=f"lifelong export {path} --to {wanted} --out DIR, then name DIR.",
        )
    raise LifelongError(
        f"this is an export to {target}, which --engine {wanted} does not run",
        where=str(path),
        fix="Leave --engine out, or name the model directory that it was made of.",
    )


def open_export(path: Path, adapter: str = ROUTED) -> Opened:
    """Return what writes with an export; its program loads it when it is first asked to.

    Args:
        path: what ``lifelong export --to onnx|gguf`` wrote.
        adapter: one that lies beside the weights, ``"base"``, or ``"routed"``: the export as it is.

    Raises:
        LifelongError: it is no causal model, or there is no such adapter.
    """
    record = read_record(path)
    if record["kind"] != CAUSAL:
        raise LifelongError(
            f"the export is of the kind '{record['kind']}', which cannot go on with a text",
            where=str(path),
            fix="Its own program runs it; here: the model directory that it was made of.",
        )
    beside: list[str] = record["adapters_beside"]
    if adapter not in (ROUTED, BASE, *beside) or (adapter == BASE and record["adapter"]):
        held = f"only '{record['adapter']}', in its weights" if record["adapter"] else ", ".join(beside) or "none"
        raise LifelongError(f"the export has no '{adapter}' to answer with; adapters in it: {held}", where=str(path))
    if adapter == ROUTED and beside:
        progress.note(
            f"note: nothing routes between adapters there: the base answers; --adapter NAME for one of "
            f"{', '.join(beside)}"
        )
    chosen = adapter if adapter in beside else None
    folder = path / TOKENIZER if (path / TOKENIZER).is_dir() else path
    return Opened(
        Elsewhere(Reach(record["context"]), lambda: _engine(path, chosen)),
        load_tokenizer(folder),
        Manners(**record["manners"]),
    )


@contextlib.contextmanager
def _engine(path: Path, adapter: str | None) -> Iterator[Engine]:
    with open_runtime(path, adapter=adapter) as runtime:
        yield OneText(runtime)


@dataclass
class _Text:
    handle: int
    tokens: Iterator[int]
    left: int
    end: int  # a token that ends it


class OneText:
    """Writes one text at a time with a runtime; see `lifelong.generate.slots.Engine`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._handles = runtime, count()
        self._text: _Text | None = None

    @property
    def free(self) -> int:
        """How many more texts can join: one, or none."""
        return 1 if self._text is None else 0

    def join(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        seed: int | None = None,
        sample: int = 0,
        stop_ids: Collection[int] = (),
        logprobs: int | None = None,
    ) -> int:
        """Begin a text; raises LifelongError where log-probabilities are asked for, which not every program tells."""
        if self._text is not None:
            raise ValueError("no row is free")
        if logprobs is not None:
            raise LifelongError("log-probabilities are told by --engine torch only")
        tokens = self._runtime.stream(ids, max_tokens, sampling, ends=stop_ids, key=key_of(seed, sample))
        self._text = _Text(next(self._handles), tokens, max_tokens, next(iter(stop_ids), 0))
        return self._text.handle

    def step(self) -> list[Step]:
        """Write one more token."""
        text = self._text
        if text is None:
            return []
        token = next(text.tokens, None)
        text.left -= 1
        finish: Finish | None = "stop" if token is None else "length" if text.left == 0 else None
        if finish is not None:
            self._text = None
        return [Step(text.handle, text.end if token is None else token, finish)]

    def leave(self, handle: int) -> dict[str, float]:
        """Give the text up."""
        if self._text is not None and self._text.handle == handle:
            self._text = None
        return {}
