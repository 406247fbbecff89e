"""`lifelong train` and `lifelong resume`: from text to a model directory."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import torch

from lifelong import progress
from lifelong.device import peak_memory_bytes, pick_device, pick_precision
from lifelong.errors import Interrupted, LifelongError
from lifelong.evaluate.bits import Score
from lifelong.locks import writer_lock
from lifelong.model.directory import load_model, load_weights, write_model_files
from lifelong.model.hub import base_directory
from lifelong.model.store import FOLDER, HOME
from lifelong.settings.load import load_settings
from lifelong.settings.presets import load_preset
from lifelong.settings.train import TrainSettings
from lifelong.text.corpus import Corpus, open_corpus
from lifelong.text.document import DataSource
from lifelong.text.prepared import is_prepared
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.decoding import tokenizer_of
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.mixture import NamedCache
from lifelong.tokens.training import BESIDE, train_tokenizer
from lifelong.train.around import Around, around
from lifelong.train.board import check_boards
from lifelong.train.cached import cache_text, corpus_of, open_caches, reopen_text
from lifelong.train.checkpoint import newest_checkpoint, restore
from lifelong.train.deciding import decide
from lifelong.train.detection import detect, move_aside
from lifelong.train.drive import Drive
from lifelong.train.folder import RunFolder
from lifelong.train.forecast import forecast
from lifelong.train.founding import commit_model
from lifelong.train.interrupts import graceful_interrupts
from lifelong.train.job import Job, TrainResult, assemble
from lifelong.train.loop import Plan
from lifelong.train.masked import check_phase, new_model
from lifelong.train.optim import warmup_steps
from lifelong.train.planning import settle
from lifelong.train.remembering import measure_domains, next_matrix
from lifelong.train.sameness import check_same, sweep, what_it_rests_on
from lifelong.train.start import Origin, choose_dropout, open_start
from lifelong.train.team import count_processes, env_processes, set_threads, team

_LABELS = {"pretrain": "Pretraining", "sft": "Chat tuning", "mlm": "Masked tokens", "seq2seq": "Encoder-decoder"}


def train(
    data: list[str],
    out: Path,
    settings: TrainSettings,
    *,
    tokenizer: Path | None = None,
    base: Path | None = None,
    fresh: bool = False,
    onnx: Path | None = None,
    dry_run: bool = False,
) -> TrainResult:
    """Train a model on text, and write it to the model directory ``out``.

    A model that ``out`` already holds is trained further; ``base`` starts from another one; otherwise a new model of
    the preset's shape begins from nothing. A model in ``out`` that lacks a file is renamed, never deleted.

    Args:
        data: sources (``PATH[:KIND][@WEIGHT]``) or a prepared directory.
        out: the model directory; its run is kept in ``out/runs/NNNN-phase``.
        tokenizer: a tokenizer directory; by default the model's own, or a new one trained on the data.
        base: a directory, or a model's name on the Hugging Face hub where there is no such directory.
        fresh: begin from nothing although ``out`` holds a model; what it held stays in its history.
        onnx: where the model's ONNX export lies (default: ``out/onnx``); it is only looked for.
        dry_run: decide everything, say it, and change nothing.

    Raises:
        LifelongError: the data cannot be read or is too little, ``out`` holds something that is not a model, or the
            loss was not a number three times in a row.
        Interrupted: Ctrl-C; the run is saved.
    """
    check_boards(settings.tracking)
    base = base_directory(base) if base is not None else None
    found = detect(out, base=base, fresh=fresh, onnx=onnx)
    if found.start is None:
        load_preset(settings.preset)  # before the reading: its name may be wrong
    caches = open_caches(data, settings)
    corpus = Corpus() if caches else read_text(data, settings)
    processes, device = count_processes(settings, pick_device(settings.device))
    set_threads(settings.threads, processes)
    torch.manual_seed(settings.seed)
    for line in found.says:
        progress.note(line)
    start = open_start(
        found,
        settings,
        device,
        tokenizer=tokenizer,
        new_tokenizer=lambda: new_words(caches, corpus, data),
        new_model=lambda words: new_model(settings, words).to(device),
    )
    check_phase(start.model, settings.phase, str(out))
    model, words, origin = start.model, start.tokenizer, start.origin
    settings = choose_dropout(model, start.settings)
    with contextlib.ExitStack() as stack:
        if dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            if found.lacking is not None:
                move_aside(out)
            stack.enter_context(writer_lock(out / HOME))
            place = out
        run = RunFolder.create(place, settings.phase, settings)
        stack.enter_context(progress.log_to(run.log_file))
        if caches:
            corpus = corpus_of(caches, words, settings)
        else:
            caches = cache_text(corpus.train, words, run.path / "cache")
        precision = pick_precision(device, settings.precision)
        job = assemble(out, run, settings, corpus, model, words, caches, precision, origin)
        stack.enter_context(team(job, processes))
        steps, facts = decide(job, data)
        if dry_run:
            for line in forecast(job, steps):
                progress.note(line)
            return TrainResult(out, run.path, model.config.parameters, steps, 0, 0.0, None, None, peak_memory_bytes())
        rests_on = what_it_rests_on(run, corpus, caches)
        run.record(**facts, **rests_on, start=origin.to_dict(), domains_before=measure_domains(job, before=True))
        before = job.measure() if len(corpus.gate) else None
        return _drive(job, job.plan(steps), start=0, before=before)


def resume(run: Path, *, nproc: int | None = None) -> TrainResult:
    """Go on exactly where an interrupted run stopped.

    Args:
        run: the run's folder, or the model directory that it trains.
        nproc: how many processes train together (default: as many as before). Under another number the batches are
            the same, and losses differ by rounding.

    Raises:
        LifelongError: the run has ended, or has no whole checkpoint; or its data or settings have changed.
    """
    folder = RunFolder.find(run)
    facts = folder.facts
    if facts["status"] == "finished":
        raise LifelongError(
            "this run has ended", where=str(folder.path), fix="`lifelong train` on the same --out trains further."
        )
    settings = load_settings(TrainSettings, folder.path / "resolved_settings.yaml")
    out = folder.path.parent.parent
    before = facts.get("processes", 1)
    processes = env_processes() or nproc or before
    if processes != before:
        progress.note(f"{processes} processes go on with what {before} began: the same batches, other rounding.")
    with contextlib.ExitStack() as stack:
        stack.enter_context(writer_lock(out / HOME))
        stack.enter_context(progress.log_to(folder.log_file))
        sweep(folder)
        checkpoint, passed = newest_checkpoint(folder.checkpoints)
        for line in passed:
            progress.note(line)
        if checkpoint is None:
            raise LifelongError("the run has no checkpoint to go on from", where=str(folder.path), fix="Train again.")
        torch.set_num_threads(facts["threads"])
        model, words = load_model(checkpoint, device=facts["device"], adapter=None)
        caches = open_caches(facts["data"], settings)
        if caches:
            corpus = corpus_of(caches, words, settings)
        else:
            corpus = read_text(facts["data"], settings)
            caches = reopen_text(folder.path / "cache", words)
        check_same(folder, corpus, caches)
        choose_dropout(model, settings)
        job = assemble(
            out, folder, settings, corpus, model, words, caches, facts["precision"], Origin(**facts["start"])
        )
        job.mix(facts["steps"])
        stack.enter_context(team(job, processes))
        if facts["compile"].startswith("on"):
            job.world.compile(model, "on", 0.0)
        if job.world.size > 1:
            settle(model, job.loader, job.plan)
        plan = job.plan(facts["steps"])
        saved = restore(checkpoint, model, plan.optimizers, job.world.model)
        plan.restore(saved["plan"])
        step = saved["step"]
        folder.rewind(step)
        progress.note(f"Going on at step {step} of {facts['steps']}.")
        return _drive(job, plan, start=step, before=None, watched=saved.get("watch"))


def read_text(data: list[str], settings: TrainSettings) -> Corpus:
    """Return the text of a run.

    Raises:
        LifelongError: it cannot be read, or there are no conversations for chat tuning.
    """
    corpus = open_corpus([DataSource.parse(item) for item in data], domain=settings.domain or "")
    for warning in corpus.report.get("warnings", []):
        progress.note(f"note: {warning}")
    if settings.phase == "sft" and all(document.messages is None for document in corpus.train):
        raise LifelongError(
            "there are no conversations here, only running text",
            where=", ".join(data),
            fix='Chat tuning needs rows of {"messages": [...]}, or of questions and answers (name the kind: PATH:qa).',
        )
    return corpus


def new_words(caches: list[NamedCache], corpus: Corpus, data: list[str]) -> Tokenizer:
    """Return the tokenizer of the caches, or the one that `prepare` left with its data, or a new one."""
    if caches:
        return tokenizer_of(caches[0].cache)
    beside = [Path(DataSource.parse(item).path).expanduser() / BESIDE for item in data]
    if len(found := [place for place in beside if is_prepared(place.parent) and place.is_dir()]) == 1:
        return load_tokenizer(found[0])
    progress.note("No tokenizer was given: training one on this text.")
    return train_tokenizer(corpus.train)


def _drive(
    job: Job, plan: Plan, *, start: int, before: Score | None, watched: dict[str, Any] | None = None
) -> TrainResult:
    def write_model(place: Path) -> None:
        job.world.refresh()
        write_model_files(job.model, job.tokenizer, place)

    def go_back(checkpoint: Path) -> None:
        load_weights(job.model, checkpoint)
        restore(checkpoint, job.model, plan.optimizers, job.world.model, random=False)

    with graceful_interrupts() as stop, around(job, write_model, plan.total_steps, start=start) as beside:
        if watched is not None:
            beside.watch.restore(watched)
        drive = Drive(
            run=job.run,
            label=_LABELS[job.settings.phase],
            bytes_per_token=job.bytes_per_token,
            measure=job.measure if len(job.corpus.gate) else None,
            measure_every=job.run.facts["measure_every"],
            write_model=write_model,
            go_back=go_back,
            checkpoint_minutes=job.settings.checkpoint.every_minutes,
            checkpoint_steps=job.settings.checkpoint.every_steps,
            keep=job.settings.checkpoint.keep,
            warmup=warmup_steps(job.settings.schedule, plan.total_steps),
            around=beside,
        )
        seconds = drive.steps(job.model, job.loader, plan, stop, start=start)
        job.world.refresh()
        after = _restore_best(job, beside, drive)
        beside.keeper.final(drive.ends_with)
        result = _finish(job, beside, drive.ended_at, seconds, before, after)
    if stop.requested:  # after the last step: what was left to do is done
        raise Interrupted("interrupted when the run had just ended; the model is written", where=str(job.out))
    return result


def _restore_best(job: Job, beside: Around, drive: Drive) -> Score | None:
    """With early stopping, put the best weights back; returns the score of those that the run ends with."""
    best = beside.watch.best_step
    if not job.settings.early_stopping.on or best is None or best == drive.ended_at:
        return drive.final
    place = beside.keeper.whole_best(best)
    if place is None:
        return drive.final
    drive.ends_with = best
    progress.note(f"The weights of step {best}, the best, are the model.")
    load_weights(job.model, place)
    return job.measure() if drive.measure is not None else None


def _finish(
    job: Job, beside: Around, steps: int, seconds: float, before: Score | None, after: Score | None
) -> TrainResult:
    rows = job.run.metrics()
    result = TrainResult(
        out=job.out,
        run=job.run.path,
        parameters=job.model.config.parameters,
        steps=steps,
        tokens=sum(row["tokens"] for row in rows),
        seconds=seconds,
        before=before,
        after=after,
        peak_memory_bytes=peak_memory_bytes(),
        early_stopped=beside.watch.exhausted,
        epochs_completed=beside.epochs_completed(steps),
        best_step=beside.watch.best_step,
    )
    matrix = next_matrix(job)
    event = {"event": "train", "phase": job.settings.phase, "domain": job.domain, **_event(result, job.origin)}
    event[FOLDER] = str(Path.cwd())
    commit_model(
        job.out, job.model, job.tokenizer, job.corpus, job.origin, domain=job.domain, event=event, matrix=matrix
    )
    job.run.record(status="finished", **result.to_dict())
    return result


def _event(result: TrainResult, origin: Origin) -> dict[str, Any]:
    return {
        "from": origin.kind,
        "base": origin.model if origin.kind == "base" else None,
        "learning_rate": origin.learning_rate,
        "run": result.run.relative_to(result.out).as_posix(),
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
        "bits_per_byte": result.after.bits_per_byte if result.after else None,
    }
