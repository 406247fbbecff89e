"""`lifelong pipeline`: all stages from sources to a tuned model, each done once, and gone on with after a kill."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import Interrupted, LifelongError, suggest
from lifelong.export.writing import check_onnx_output
from lifelong.locks import writer_lock
from lifelong.model.directory import is_model_directory
from lifelong.pipeline.notes import RUNNING, Notes, reason_to_run
from lifelong.pipeline.planning import Layout, base_of, lay_out
from lifelong.pipeline.training import damage
from lifelong.settings.pipeline import STAGES, PipelineSettings
from lifelong.train.detection import PIPELINE, detect, move_aside
from lifelong.train.folder import RUNS


def run(
    out: Path,
    settings: PipelineSettings,
    *,
    skip: Sequence[str] = (),
    redo: Sequence[str] = (),
    dry_run: bool = False,
) -> dict[str, Any]:
    """Do every stage that is not up to date; the model directory ``out`` is the result.

    Tokenizer, caches and notes lie in ``out/pipeline``. A stage is up to date when what its result follows from (its
    text, the output of the stages before, its settings) is as noted, and its output is whole. An interrupted stage
    goes on where it was.

    Args:
        out: the model directory.
        settings: sources, and settings of all stages.
        skip: stages to leave out; what they would make is taken as it is.
        redo: stages to do again, with all that depend on them.
        dry_run: say what would be done and what it would take, and change nothing.

    Returns:
        ``out``, and for each stage its ``status`` (``done``, ``up to date``, ``skipped``, in a dry run ``would run``),
        ``why``, and what came out of it.

    Raises:
        LifelongError: nothing to train on; a later stage lacks the output of a skipped one; another process is at it.
        Interrupted: Ctrl-C; the same command goes on.
    """
    skip, redo = _known("--skip", skip), _known("--redo", redo)
    home = out / PIPELINE
    check_onnx_output(Path(settings.onnx_output) if settings.onnx_output else None)
    found = detect(out, base=base_of(settings))
    notes = Notes(home)
    layout = lay_out(out, home, settings, notes, skip)
    names = [stage.name for stage in layout.stages]
    for flag, given in (("--skip", skip), ("--redo", redo)):
        for name in given:
            if name not in names:
                raise LifelongError(
                    f"{flag} {name}: this pipeline has no such stage", fix=f"It has {', '.join(names)}."
                )
    _check_owner(out, settings, notes)
    _check_skipped(layout, skip)
    for line in layout.says:
        progress.note(line)
    if dry_run:
        from lifelong.pipeline.forecast import forecast

        return forecast(out, settings, layout, notes, skip, _dependents(layout, redo))
    with contextlib.ExitStack() as stack:
        stack.enter_context(writer_lock(home))
        hurt = damage(out) if is_model_directory(out) else None
        if hurt is not None:
            progress.note(f"warning: the model directory is damaged: {hurt}")
        if hurt is not None or found.lacking is not None:
            _set_aside(out)
        stack.enter_context(progress.log_to(home / "pipeline.log"))
        settings.to_yaml(home / "resolved_settings.yaml")
        for name in _dependents(layout, redo):
            notes.ask_again(name)
        try:
            stages = _go(layout, notes, skip)
        except (KeyboardInterrupt, Interrupted) as stopped:
            raise Interrupted(
                "interrupted; what is finished is kept", where=str(out), fix="The same command goes on."
            ) from stopped
    return {"out": str(out), "stages": stages}


def _go(layout: Layout, notes: Notes, skip: Sequence[str]) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for stage in layout.stages:
        name = stage.name
        if name in skip:
            progress.note(f"{name}: skipped")
            done[name] = {"status": "skipped"}
            continue
        inputs, record = stage.inputs(), notes.get(name)
        why = reason_to_run(record, inputs) or stage.problem()
        if why is None:
            result = notes.done(name) or {}
            progress.note(f"{name}: up to date{_lacks(result)}")
            done[name] = {"status": "up to date", **result}
            continue
        begun = record.result if record is not None and record.status == RUNNING and record.inputs == inputs else None
        progress.note(f"{name}: {why}" + ("; going on" if begun is not None else ""))
        began = time.perf_counter()
        notes.begin(name, inputs, stage.begin() if begun is None else begun)
        result = stage.run(begun)
        # What a stage made may be among what it follows from (a model card changes nothing of that).
        notes.finish(name, inputs, result, began)
        seconds = time.perf_counter() - began
        progress.note(f"{name}: done in {progress.spell_seconds(seconds)}")
        done[name] = {"status": "done", "why": why, "seconds": round(seconds, 2), **result}
    return done


def _lacks(result: dict[str, Any]) -> str:
    missing = result.get("missing")
    return f" (without {', '.join(missing)}, which could not be had; --redo tries again)" if missing else ""


def _known(flag: str, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in STAGES:
            raise LifelongError(
                f"{flag} {name}: there is no such stage.{suggest(name, STAGES)}", fix=f"Stages: {', '.join(STAGES)}."
            )
    return tuple(dict.fromkeys(names))


def _check_owner(out: Path, settings: PipelineSettings, notes: Notes) -> None:
    """Refuse to replace a model that no pipeline made; training further on a file is what it says."""
    if settings.data_file or not is_model_directory(out) or any(notes.get(name) for name in ("pretrain", "sft")):
        return
    raise LifelongError(
        "there is a model that this pipeline did not make, and a pipeline would replace it",
        where=str(out),
        fix="Choose another --out (with --base on this model to start from it), or train it further with --data-file.",
    )


def _check_skipped(layout: Layout, skip: Sequence[str]) -> None:
    """Refuse to leave a stage out whose output a later one needs and nothing has made."""
    for stage in layout.stages:
        if stage.name not in skip:
            continue
        users = [later.name for later in layout.stages if stage.name in later.needs and later.name not in skip]
        problem = stage.problem() if users and stage.name != "evaluate" else None
        if problem is not None:
            raise LifelongError(
                f"'{users[0]}' needs what '{stage.name}' makes, and that is skipped: {problem}",
                fix=f"Leave --skip {stage.name} out, or skip {' and '.join(users)} too.",
            )


def _dependents(layout: Layout, redo: Sequence[str]) -> list[str]:
    """Return the stages to redo, and all that depend on them, in order."""
    found: list[str] = []
    for stage in layout.stages:
        if stage.name in redo or any(name in found for name in stage.needs):
            found.append(stage.name)
    return found


def _set_aside(out: Path) -> None:
    """Move a model that lacks something aside; the runs and the pipeline's own files stay."""
    aside = move_aside(out)
    out.mkdir()
    for name in (PIPELINE, RUNS):
        if (aside / name).is_dir():
            (aside / name).rename(out / name)
