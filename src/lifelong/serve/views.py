"""One loaded model, and the ways to ask it: the base, each adapter, or all of them together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError, suggest
from lifelong.generate.slots import Slots
from lifelong.model.adapters import adapted_layers
from lifelong.model.directory import load_model
from lifelong.model.experts import BASE, ROUTED, Experts, use_expert
from lifelong.model.seq2seq import EncoderDecoderModel

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer

AUTO, MERGED = "auto", "merged"
_LONGEST = 4096  # tokens of a slot, unless asked for: keys and values of every slot lie in memory from the start
OPEN = 3  # views whose slots stay in memory while nothing is written with them


def context_within(longest: int, asked: int | None) -> int:
    """Return the tokens of a text at most; raises LifelongError where more are asked for than the model reads."""
    if asked is not None and asked > longest:
        raise LifelongError(f"the model reads {longest} tokens, not {asked}", where="context")
    return asked or min(longest, _LONGEST)


def asked_as(adapter: str) -> str:
    """Return how an adapter is asked for; one whose name stands for something else here gets another."""
    return f"adapter-{adapter}" if adapter in (AUTO, MERGED) else adapter


def find_target(name: str, targets: Mapping[str, str], why: str = "") -> str:
    """Return which view a name means; raises LifelongError, which says ``why``, where it means none."""
    if name not in targets:
        raise LifelongError(
            f"the model '{name}' does not exist.{why}{suggest(name, targets)}",
            fix=f"There are: {', '.join(targets)}.",
        )
    return targets[name]


@dataclass
class _State:
    """What the layers of the model hold while one view computes."""

    experts: Experts | None
    branches: list[Any] = field(default_factory=list)
    slots: Slots | None = None


class Views:
    """A model, its tokenizer, and its views by name; they share the base weights. For one thread only.

    ``auto`` answers with all adapters, by what the text is like; ``base`` and each adapter alone. ``merged`` is the
    base with the only adapter there is; several cannot be folded into one another.

    Args:
        model: with its adapters beside it, or none.
        tokenizer: the one it was trained with.
        rows: texts that one view writes side by side.
        context: tokens of a text at most, its prompt included.
        fixed_share: of ``auto``; see `lifelong.generate.reading.Reader`.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, *, rows: int, context: int | None, fixed_share: float = 0.0
    ) -> None:
        self.model, self.tokenizer, self._rows, self._share = model, tokenizer, rows, fixed_share
        self.context = context_within(model.config.max_seq_len, context)
        self.seq2seq = isinstance(model, EncoderDecoderModel)
        self.writes = self.seq2seq or model.config.causal
        self._experts = model.experts if isinstance(model.experts, Experts) else None
        adapters = self._experts.adapters if self._experts is not None else []
        self.targets: dict[str, str] = {AUTO: ROUTED, BASE: BASE}
        if len(adapters) == 1:
            self.targets[MERGED] = adapters[0]
        self.targets.update({asked_as(name): name for name in adapters})
        self._states: dict[str, _State] = {}
        self._active: str | None = None

    @classmethod
    def load(cls, path: Path, *, device: str, rows: int, context: int | None, fixed_share: float = 0.0) -> Views:
        """Load a model directory, a run or a checkpoint; raises LifelongError as `load_model` and this class do."""
        model, tokenizer = load_model(path, device=device)
        return cls(model, tokenizer, rows=rows, context=context, fixed_share=fixed_share)

    @property
    def adapters(self) -> list[str]:
        """The adapters' names, oldest first."""
        return list(self._experts.adapters) if self._experts is not None else []

    def target(self, name: str) -> str:
        """Return which view a name means; raises LifelongError where it means none."""
        why = " Several adapters cannot be merged as they are." if name == MERGED and self.adapters else ""
        target = find_target(name, self.targets, why)
        return BASE if target == ROUTED and self._experts is None else target

    def slots(self, view: str) -> Slots:
        """Return what writes with a view, and let the model's layers compute it."""
        self.activate(view)
        state = self._states[view]
        if state.slots is None:
            slots = Slots(
                self.model,
                self._rows,
                self.context,
                vocab_size=self.tokenizer.vocab_size,
                fixed_share=self._share if view == ROUTED else 0.0,
            )
            state.slots = slots.__enter__()
        return state.slots

    def readers(self, view: str) -> list[str]:
        """Return the views that a view consists of: of ``auto`` all experts, else itself."""
        return self._experts.names if view == ROUTED and self._experts is not None else [view]

    def drop(self, view: str) -> None:
        """Forget what is written with a view."""
        if view in self._states:
            self.activate(view)
            state = self._states.pop(view)
            if state.slots is not None:
                state.slots.__exit__(None, None, None)
            self._active = None

    def drop_idle(self, busy: Collection[str]) -> None:
        """Free the memory of views with which nothing is written, but for the latest few."""
        idle = [name for name in self._states if name not in busy]
        for name in idle[: max(0, len(idle) - OPEN)]:
            self.drop(name)

    def close(self) -> None:
        """Free the memory of all views."""
        for view in list(self._states):
            self.drop(view)

    def activate(self, view: str) -> None:
        """Let the model's layers compute a view."""
        if view == self._active:
            return
        self._save()
        state = self._states.pop(view, None)
        if state is None:
            state = _State(self._experts if view == ROUTED else None)
            if self._experts is not None:
                self.model.experts = self._experts
                use_expert(self.model, BASE if view == ROUTED else view)
        else:
            for (_, layer), branch in zip(list(adapted_layers(self.model)), state.branches, strict=True):
                layer.adapter = branch
        self._states[view] = state  # the latest last
        self.model.experts = state.experts
        self._active = view

    def _save(self) -> None:
        """Note what the layers hold for the view that computed last."""
        last, self._active = self._active, None
        if last is not None:
            self._states[last].branches = [layer.adapter for _, layer in adapted_layers(self.model)]
