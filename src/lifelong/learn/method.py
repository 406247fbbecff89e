"""How a lesson is to be taught: which weights move, at which rate, and how much old text is mixed in."""

from __future__ import annotations

from typing import Any, Literal

from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score
from lifelong.model.base import LanguageModel
from lifelong.settings.learn import LearnSettings
from lifelong.settings.session import SessionSettings

# With all weights moving, half of the rows are old text: the old domains then hold or gain, and the new one is learned
# better than naively (docs/log.md). Beside frozen weights, less is enough.
_FULL_REPLAY = 0.5
_NEAR_REPLAY, _FAR_REPLAY = 0.05, 0.25
_LOADED_RATE = 2e-4

Mode = Literal["adapter", "full"]


def choose_mode(settings: LearnSettings, state: dict[str, Any]) -> tuple[Mode, str]:
    """Return which weights a lesson moves, and the reason in words.

    Args:
        settings: of the lesson.
        state: of the model directory.

    Raises:
        LifelongError: all weights are to move beneath adapters that were learned for them as they are.
    """
    adapters = state.get("adapters", [])
    if settings.mode == "full" and adapters:
        raise LifelongError(
            f"the model has {len(adapters)} adapters, made for its weights as they are: these cannot move beneath them",
            fix="Leave --mode out, or fold the adapters into the weights first: lifelong consolidate MODEL.",
        )
    if settings.mode != "auto":
        return settings.mode, "as given"
    if adapters:
        return "adapter", "the model has adapters already"
    if "pretrained" in state or not state:
        return "adapter", "the base was pretrained elsewhere, on text that is not here to be replayed"
    if settings.adapter_name is not None:
        return "adapter", "an adapter is named"
    return "full", "the model was trained here, and its text is here to be replayed"


def check_teacher(settings: LearnSettings, mode: Mode, model: LanguageModel) -> None:
    """Raise LifelongError where the model before the lesson is to teach, and cannot, or has nothing to hold."""
    if not settings.teacher_share:
        return
    if mode == "adapter":
        raise LifelongError(
            "the model before the lesson teaches where all weights move; beside an adapter they stay as they are",
            where="teacher_share",
            fix="Leave --teacher-share out, or move all weights: --mode full.",
        )
    if not model.plain_logits:
        raise LifelongError(
            "models of this family cannot be teachers yet: they scale or cap their logits",
            where="teacher_share",
            fix="Leave --teacher-share out.",
        )


def has_second_way(settings: LearnSettings, mode: Mode) -> bool:
    """Return whether an adapter may be tried where the gate undoes all weights: only where the choice was left open."""
    return mode == "full" and settings.mode == "auto" and not settings.accept and not settings.teacher_share


def replay_share(settings: LearnSettings, mode: Mode, shift: float | None) -> float:
    """Return the share of rows that are old text.

    Args:
        settings: of the lesson; a share that is given wins.
        mode: which weights move.
        shift: see `shift_of`; None counts as far.
    """
    if settings.replay_share is not None:
        return settings.replay_share
    if mode == "full":
        return _FULL_REPLAY
    far = 1.0 if shift is None else min(1.0, max(0.0, shift))
    return _NEAR_REPLAY + far * (_FAR_REPLAY - _NEAR_REPLAY)


def learning_rate(settings: SessionSettings, state: dict[str, Any]) -> float:
    """Return the peak rate: the given one, or the highest that the model was trained at (Ibrahim et al. 2024,
    arXiv:2403.08763).

    A model that was not trained here from the start is likely a large one, and takes a low rate.
    """
    if settings.learning_rate is not None:
        return settings.learning_rate
    return _LOADED_RATE if "pretrained" in state else float(state.get("peak_learning_rate") or _LOADED_RATE)


def shift_of(new: Score | None, known: list[Score]) -> float | None:
    """Return by which share a byte of new text costs the model more than one of what it knows; None without either."""
    if new is None or not known:
        return None
    usual = sum(score.bits_per_byte for score in known) / len(known)
    return new.bits_per_byte / usual - 1.0


def adapters_of(state: dict[str, Any]) -> dict[str, str]:
    """Return the adapter that knows each domain best: the last that was taught it. Other domains are in the weights."""
    return {item["domain"]: item["name"] for item in state.get("adapters", [])}
