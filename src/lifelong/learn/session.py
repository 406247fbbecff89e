"""One lesson: a domain's text taught to a model directory, measured against all it knew, and kept or undone.

A lesson is ordinary training with three choices: which data (the new text mixed with replay), which weights (an adapter
or all), and which pull (EWC). Where the choice of weights is left to it, and the gate does not let all weights go the
whole of their way, an adapter is tried on the same text, and what the gate finds better is kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lifelong import progress
from lifelong.device import pick_precision
from lifelong.errors import LifelongError
from lifelong.evaluate.baselines import compressed_bits
from lifelong.evaluate.bits import Score
from lifelong.evaluate.growing import extend_matrix
from lifelong.evaluate.matrix import Measuring
from lifelong.learn.checking import open_checked
from lifelong.learn.commit import commit_lesson, next_session
from lifelong.learn.cost import Forecast, session_flops
from lifelong.learn.held import Holdings, hold, read_held, read_slices, scores, with_reading
from lifelong.learn.judging import damage, judge
from lifelong.learn.known import leave_out_known
from lifelong.learn.lesson import Attempt, Lesson, LessonResult
from lifelong.learn.method import (
    Mode,
    adapters_of,
    check_teacher,
    choose_mode,
    has_second_way,
    learning_rate,
    replay_share,
    shift_of,
)
from lifelong.learn.opening import opened, row_length
from lifelong.learn.recovery import recorded
from lifelong.learn.teaching import estimator, plan_lesson, teach_steps
from lifelong.learn.weights import check_name, prepare_weights
from lifelong.model.adapters import check_rank, detach_adapter
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, fingerprint, load_model, read_config
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.text.document import DataSource, Document
from lifelong.text.memory import ReplayMemory, frozen
from lifelong.tokens.loading import load_tokenizer
from lifelong.train.folder import RunFolder
from lifelong.train.founding import CAPACITY, MEMORY

_WORTH_SAYING = 5.0  # seconds of measuring


def learn(
    model: Path, sources: list[str], settings: LearnSettings, *, texts: Sequence[Document] = (), dry_run: bool = False
) -> LessonResult | Forecast:
    """Teach a model directory one domain; commits the lesson, or undoes it, and records it either way.

    Args:
        model: a model directory.
        sources: ``PATH[:KIND][@WEIGHT]``, or a prepared directory.
        texts: documents that are in memory, beside those of the sources; their ``source`` is the name that history and
            memory give them.
        dry_run: say what would be done and how long it takes, return that, and change nothing.

    Raises:
        LifelongError: there is no text, it has errors, all of it was taught before, or the rank does not fit; the model
            is untouched.
        Interrupted: Ctrl-C; the model is untouched.
    """
    root = find_model(Path(model))
    read_config(root).require_causal("be taught lessons yet")
    given = [DataSource.parse(item) for item in sources]
    names = [*(str(source.path) for source in given), *dict.fromkeys(text.source for text in texts)]
    length = row_length(root, settings)
    settings = settings.model_copy(update={"sequence_length": length})
    corpus = open_checked(given, settings.domain, load_tokenizer(root), length, texts=texts)
    for warning in corpus.report.get("warnings", []):
        progress.note(f"note: {warning}")
    with opened(root, settings, dry_run=dry_run) as place:
        store, state = place.store, place.store.state()
        mode, reason = choose_mode(settings, state)
        if mode == "adapter":
            check_name(state, settings)
        progress.note(f"Method: {'a new adapter' if mode == 'adapter' else 'all weights'} ({reason}).")
        known = list(state.get("domains", []))
        corpus = leave_out_known(root, corpus, known, again=settings.again)
        if settings.importance != 1.0:
            weighted = [replace(item, weight=item.weight * settings.importance) for item in corpus.train]
            corpus = replace(corpus, train=weighted)
        network, tokenizer = load_model(root, device=place.device)
        base = check_weights(network, store)
        check_teacher(settings, mode, network)
        if mode == "adapter":
            check_rank(network, settings.lora_rank)
        spare = _has_spare(network, state, settings, mode)
        run = RunFolder.create(place.runs, f"learn-{settings.domain}", settings)
        memory = ReplayMemory.load(root / MEMORY, settings.replay_buffer_size, settings.seed)
        bf16 = pick_precision(place.device, settings.precision) == "bf16"
        rate = learning_rate(settings, state)
        lesson = Lesson(root, store, settings, names, corpus, network, tokenizer, base, memory, bf16, run, mode, rate)
        return _give(lesson, known, [str(model), *sources], spare=spare, dry_run=dry_run)


def check_weights(network: LanguageModel, store: ModelStore) -> str:
    """Return the fingerprint of a model's weights.

    Raises:
        LifelongError: they are not those on record: a commit would bring these back.
    """
    mine = fingerprint(network)
    if store.state().get("base_fingerprint", mine) != mine:
        raise LifelongError(
            "the weights were changed from outside: its history and adapters are of other ones",
            where=str(store.root),
            fix="Put the file back as it was, or make a model of these weights: "
            f"lifelong import {store.root} --out NEW_DIRECTORY.",
        )
    return mine


def _has_spare(network: LanguageModel, state: dict[str, Any], settings: LearnSettings, mode: Mode) -> bool:
    """Return whether an adapter is to be tried where the gate undoes all weights; says so beforehand."""
    if not has_second_way(settings, mode):
        return False
    try:
        check_name(state, settings)
        check_rank(network, settings.lora_rank)
    except LifelongError as error:
        progress.note(f"note: should the gate undo that, no adapter is tried: {error.what}")
        return False
    progress.note(
        "Should the gate not let it go the whole of its way, an adapter is tried on the same text, for about as long "
        "again at most, and the better is kept."
    )
    return True


def _give(
    lesson: Lesson, known: list[str], arguments: list[str], *, spare: bool, dry_run: bool
) -> LessonResult | Forecast:
    """Measure, teach, measure again, decide, and commit; where ``spare``, an adapter may be tried after all weights."""
    with recorded(lesson.run, "learn", arguments):
        began = time.perf_counter()
        gate = _open(lesson, known, "gate")
        read_held(lesson.model, gate, "Measuring the gate")
        shift = _say_what_it_is(lesson, scores(gate))
        test = {} if dry_run else _open(lesson, known, "test")
        read_held(lesson.model, test, "Measuring before the lesson")
        measuring = time.perf_counter() - began
        if measuring > _WORTH_SAYING and not dry_run:
            progress.note(
                f"Measuring took {progress.spell_seconds(measuring)}; after the training it takes about that again, "
                "and more where the gate asks for a shorter way."
            )
        first = _attempt(lesson, gate, shift, dry_run=dry_run)
        if first is None:
            now = scores(gate).get(lesson.settings.domain)
            return Forecast.of(lesson.run.facts, now.bits_per_byte if now else None)
        if not spare or (first.decision.accepted and first.scale == 1.0):
            return _finish(lesson, first, None, test)
        lesson.run.record(status="finished", accepted=False, **first.figures(lesson.root))
    word = f"kept {first.scale:.0%} of the way of" if first.decision.accepted else "undid"
    progress.note(f"The gate {word} all weights: " + "; ".join(first.decision.reasons))
    progress.note("Now an adapter on the same text.")
    earlier = lesson.run, lesson.moving, lesson.fisher
    lesson.moving.put_back(lesson.model)
    lesson.mode = "adapter"
    settings = lesson.settings.model_copy(update={"mode": "adapter"})  # done again, it is this attempt alone
    lesson.run = RunFolder.create(lesson.root, f"learn-{settings.domain}-adapter", settings)
    with recorded(lesson.run, "learn", arguments):
        second = _attempt(lesson, gate, shift)
        assert second is not None
        if not first.decision.accepted or _better(second, first, settings.domain):
            return _finish(lesson, second, first, test)
        lesson.run.record(status="finished", accepted=False, **second.figures(lesson.root))
    detach_adapter(lesson.model)
    lesson.mode, (lesson.run, lesson.moving, lesson.fisher) = "full", earlier
    lesson.moving.step_back(lesson.model, first.scale)
    return _finish(lesson, first, second, test)


def _better(second: Attempt, first: Attempt, domain: str) -> bool:
    """Whether the gate keeps an adapter that teaches its domain more than a part of the way of all weights.

    What an unmeasured domain learned is not known: then the way that moves none of the weights is the better.
    """
    if domain not in first.changes:
        return second.decision.accepted
    return second.decision.accepted and second.changes[domain].after < first.changes[domain].after


def _attempt(lesson: Lesson, gate: Holdings, shift: float | None, *, dry_run: bool = False) -> Attempt | None:
    """Teach the lesson in its mode, and let the gate decide; None after saying how long it takes, in a dry run."""
    settings = lesson.settings
    torch.manual_seed(settings.seed)  # whatever was done before
    moving = lesson.moving = prepare_weights(
        lesson.model, lesson.mode, settings, lesson.root, lesson.store.state(), lesson.base_fingerprint
    )
    loader, plan = plan_lesson(lesson, replay_share(settings, lesson.mode, shift))
    if dry_run:
        return None
    state = lesson.store.state()
    fisher = lesson.fisher = estimator(lesson).before(lesson.root, lesson.memory, adapters_of(state))
    pull = plan.pull = None if fisher is None else fisher.pull(lesson.model, settings.ewc_lambda)
    moving.begin(lesson.model)
    seconds = teach_steps(lesson, loader, plan, gate.get(settings.domain))
    decision, changes = judge(lesson, gate)
    tokens, replayed = sum(row["tokens"] for row in lesson.run.metrics()), lesson.run.facts["replay_share"]
    return Attempt(
        run=lesson.run.path,
        mode=lesson.mode,
        decision=decision,
        changes=changes,
        scale=moving.scale,
        replay_share=replayed,
        steps=plan.total_steps,
        tokens=tokens,
        flops=session_flops(
            lesson.model.config,
            tokens,
            lesson.sequence_length,
            adapter_parameters=moving.parameters(lesson.model),
            taught=replayed if settings.teacher_share else 0.0,
        ),
        seconds=seconds,
        predicted_damage=pull.predicted_damage().item() if pull else None,
        measured_damage=damage(changes, settings.domain),
    )


def _finish(lesson: Lesson, attempt: Attempt, undone: Attempt | None, test: Holdings) -> LessonResult:
    """Measure what came of it on the test slices, commit it or undo it, and record it."""
    settings, domain = lesson.settings, lesson.settings.domain
    before, after = scores(test), scores(with_reading(lesson.model, test, lesson.expert, "Measuring after the lesson"))
    matrix = extend_matrix(
        lesson.store.state().get("matrix"),
        {name: score.bits_per_byte for name, score in before.items()},
        {name: score.bits_per_byte for name, score in after.items()},
        domain,
        lesson.measuring,
    )
    result = LessonResult(
        **vars(attempt),
        model=lesson.root,
        domain=domain,
        session=next_session(lesson.store),
        accepted=attempt.decision.accepted or settings.accept,
        matrix=matrix,
        experts=len(lesson.experts) if lesson.moving.adapter else 0,
        alone={name: {expert: s.bits_per_byte for expert, s in score.experts.items()} for name, score in after.items()},
        undone=undone,
    )
    if lesson.fisher is not None and result.accepted and not lesson.moving.adapter:
        taught = ReplayMemory(CAPACITY, settings.seed)
        taught.add(lesson.corpus.train, domain)
        lesson.fisher = estimator(lesson).after(lesson.fisher, taught)
    commit_lesson(lesson, result)
    lesson.run.record(status="finished", **result.to_dict())
    return result


def _open(lesson: Lesson, known: list[str], split: str) -> Holdings:
    """Return the slices of all domains, and of this one where it has none yet, ready to be read."""
    slices = read_slices(lesson.root, known, split)
    if lesson.settings.domain not in slices:  # what will be frozen: later sessions measure the same documents
        slices[lesson.settings.domain] = frozen(lesson.corpus.split(split), seed=lesson.settings.seed)
    # What decides is read in rows as long as those that are taught; the matrix is measured as it ever was.
    how = Measuring(lesson.sequence_length, lesson.settings.max_bytes) if split == "gate" else lesson.measuring
    return hold(lesson.tokenizer, slices, how)


def _say_what_it_is(lesson: Lesson, gate: dict[str, Score]) -> float | None:
    """Say how surprising the text is to the model, and what will be done; returns the shift."""
    new = gate.get(lesson.settings.domain)
    old = [score for domain, score in gate.items() if domain != lesson.settings.domain]
    if new is not None:
        usual = f", one of what it knows {sum(s.bits_per_byte for s in old) / len(old):.3f}" if old else ""
        simple = compressed_bits(lesson.corpus.gate) if len(lesson.corpus.gate) else None
        beside = "" if simple is None else f"; by zlib {simple:.3f}"
        progress.note(f"A byte of this text costs the model {new.bits_per_byte:.3f} bits now{usual}{beside}.")
    return shift_of(new, old)
