"""How far a lesson's weights may go: the whole of their way, a part of it, or not at all."""

from __future__ import annotations

from lifelong.learn.gate import Change, Decision, change, decide
from lifelong.learn.held import Holdings, scores, with_reading
from lifelong.learn.lesson import Lesson

# Shares of the way that are tried, the longest first, where the whole of it costs an old domain too much.
_STEPS_BACK = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def judge(lesson: Lesson, gate: Holdings) -> tuple[Decision, dict[str, Change]]:
    """Decide on the gate slices. Where an old domain loses too much, the weights go back a part of their way.

    The longest way that passes is found by bisection: the shorter it is, the less is forgotten, and learned.
    """
    domain, moving = lesson.settings.domain, lesson.moving
    before = scores(gate)

    def tried(scale: float) -> tuple[Decision, dict[str, Change]]:
        moving.step_back(lesson.model, scale)
        title = "Measuring the gate" if scale == 1.0 else f"Measuring the gate, {scale:.0%} of the way"
        after = scores(with_reading(lesson.model, gate, lesson.expert, title))
        changes = {name: change(before[name], score) for name, score in after.items()}
        return decide(changes, domain, tolerance=lesson.settings.tolerance), changes

    whole = tried(1.0)
    if whole[0].accepted or not whole[0].learned or lesson.settings.accept:
        return whole
    best: tuple[float, tuple[Decision, dict[str, Change]]] | None = None
    first, last = 0, len(_STEPS_BACK)
    while first < last:
        middle = (first + last) // 2
        found = tried(_STEPS_BACK[middle])
        if found[0].accepted:
            best, last = (_STEPS_BACK[middle], found), middle
        elif not found[0].learned:
            last = middle
        else:
            first = middle + 1
    if best is None:
        moving.step_back(lesson.model, 1.0)
        whole[0].reasons.append("no part of its way would have passed either")
        return whole
    scale, (decision, changes) = best
    moving.step_back(lesson.model, scale)
    decision.reasons.append(f"the whole of the lesson cost an old domain too much: {scale:.0%} of its way was kept")
    return decision, changes


def damage(changes: dict[str, Change], taught: str) -> float | None:
    """Return the rise of the old domains' losses, added up, in nats per token; None where there are none."""
    rises = [moved.nats_per_token for domain, moved in changes.items() if domain != taught]
    return sum(rises) if rises else None
