"""An export, asked as `Views` are: each of them in the program that it is for."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from lifelong.export.engines import open_export
from lifelong.export.runtimes import read_record
from lifelong.generate.slots import Engine
from lifelong.model.experts import BASE, ROUTED
from lifelong.serve.views import MERGED, OPEN, Views, asked_as, context_within, find_target


class Exported:
    """An ONNX or GGUF export of a causal model, and its views by name. For one thread at a time.

    ``base`` and each adapter that lies beside it answer alone; nothing weighs them. An export with an adapter in its
    weights has that one only, under its name and as ``merged``. Every view is loaded when it is first asked, and writes
    one text at a time.

    Args:
        path: what ``lifelong export --to onnx|gguf`` wrote.
        context: tokens of a text at most, its prompt included.

    Attributes:
        engine: ``onnx`` or ``gguf``.
        chats: whether it was taught conversations.

    Raises:
        LifelongError: it is no export of a causal model, or its program is not installed or refuses it.
    """

    writes: ClassVar[bool] = True
    seq2seq: ClassVar[bool] = False

    def __init__(self, path: Path, *, context: int | None = None) -> None:
        record = read_record(path)
        self.engine: str = record["to"]
        self._path = path
        self._open: dict[str, tuple[Engine, ExitStack]] = {}
        if folded := record["adapter"]:
            self.targets = {MERGED: ROUTED, asked_as(folded): ROUTED}
        else:
            self.targets = {BASE: BASE, **{asked_as(name): name for name in record["adapters_beside"]}}
        first = next(iter(self.targets.values()))
        opened = open_export(path, first)
        self.model, self.tokenizer, self.chats = opened.model, opened.tokenizer, opened.manners.chats
        self.context = context_within(self.model.config.max_seq_len, context)
        self.slots(first)  # what is missing or broken is said now, not to the first who asks

    def target(self, name: str) -> str:
        """Return which view a name means; raises LifelongError where it means none."""
        return find_target(name, self.targets)

    def slots(self, view: str) -> Engine:
        """Return what writes with a view."""
        found = self._open.pop(view, None)
        if found is None:
            stack = ExitStack()
            found = stack.enter_context(open_export(self._path, view).model.open()), stack
        self._open[view] = found  # the latest last
        return found[0]

    def drop(self, view: str) -> None:
        """Forget what is written with a view."""
        if view in self._open:
            self._open.pop(view)[1].close()

    def drop_idle(self, busy: Collection[str]) -> None:
        """Free the memory of views with which nothing is written, but for the latest few."""
        idle = [name for name in self._open if name not in busy]
        for name in idle[: max(0, len(idle) - OPEN)]:
            self.drop(name)

    def close(self) -> None:
        """Free the memory of all views."""
        for view in list(self._open):
            self.drop(view)


AnyViews = Views | Exported
