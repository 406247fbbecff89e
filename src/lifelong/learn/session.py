"""One lesson: a domain's text taught to a model directory, measured against all it knew, and kept or undone.

A lesson is ordinary training with three choices: which data (the new text mixed with replay), which weights (an adapter
or all), and which pull (EWC).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from lifelong import progress
from lifelong.device import pick_device, pick_precision
from lifelong.errors import LifelongError
from lifelong.evaluate.matrix import extend_matrix
from lifelong.files import writer_lock
from lifelong.learn.checking import open_checked
from lifelong.learn.commit import commit_lesson
from lifelong.learn.ewc import ElasticPull, fisher_diagonal
from lifelong.learn.gate import change, decide
from lifelong.learn.lesson import Lesson, LessonResult
from lifelong.learn.measure import read_slices
from lifelong.model.adapters import AdapterConfig, attach_adapter, merge_adapter, read_adapter_config
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, fingerprint, load_model, read_config
from lifelong.model.store import HOME, ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.text.document import DataSource
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.building import build_cache
from lifelong.tokens.checks import longest_row
from lifelong.tokens.loader import Batch, Loader
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
from lifelong.train.drive import Drive
from lifelong.train.folder import RunFolder
from lifelong.train.founding import MEMORY
from lifelong.train.interrupts import graceful_interrupts
from lifelong.train.loop import Plan
from lifelong.train.optim import build_optimizers, learning_rate, schedule
from lifelong.train.planning import compile_blocks, measure_step, steps_in, steps_of
from lifelong.train.start import LONGEST

# Rows of 256 tokens in a batch that the Fisher information is estimated on: small batches, see `fisher_diagonal`.
_FISHER_ROWS = 2


def learn(model: Path, sources: list[str], settings: LearnSettings, *, dry_run: bool = False) -> LessonResult | None:
    """Teach a model directory one domain; commits the lesson, or undoes it, and records it either way.

    Args:
        model: a model directory.
        sources: ``PATH[:KIND][@WEIGHT]``, or a prepared directory.
        dry_run: say what would be done and how long it takes, change nothing, and return None.

    Raises:
        LifelongError: there is no text, it has errors, or the rank does not fit; the model is untouched.
        Interrupted: Ctrl-C; the model is untouched.
    """
    root = find_model(Path(model))
    read_config(root).require_causal("be taught lessons yet")
    given = [DataSource.parse(item) for item in sources]
    length = settings.sequence_length or longest_row(root)
    if settings.sequence_length is None and length is not None and length > LONGEST:
        progress.note(f"Rows of {LONGEST} tokens; the model takes {length} (--sequence-length).")
        length = LONGEST
        settings = settings.model_copy(update={"sequence_length": LONGEST})
    corpus = open_checked(given, settings.domain, load_tokenizer(root), length)
    for warning in corpus.report.get("warnings", []):
        progress.note(f"note: {warning}")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    device = pick_device(settings.device)
    with contextlib.ExitStack() as stack:
        if dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            stack.enter_context(writer_lock(root / HOME))
            place = root
        network, tokenizer = load_model(root, device=device)
        store = ModelStore.open(root)
        run = RunFolder.create(place, f"learn-{settings.domain}", settings)
        adapter = _choose_weights(root, store, network, settings)
        precision = pick_precision(device, settings.precision)
        memory = ReplayMemory.load(root / MEMORY, settings.replay_buffer_size, settings.seed)
        lesson = Lesson(root, store, settings, corpus, network, tokenizer, adapter, memory, precision == "bf16", run)
        loader, plan, step_seconds = _plan(lesson)
        if dry_run:
            return None
        return _teach(lesson, loader, plan, step_seconds)


def _choose_weights(
    root: Path, store: ModelStore, model: LanguageModel, settings: LearnSettings
) -> AdapterConfig | None:
    """Attach the adapter to train, or make all weights trainable. An adapter in use is taught further."""
    active = store.state().get("active_adapter")
    if settings.mode == "full":
        if active:
            merge_adapter(model)  # what the adapter knows moves into the weights, and is trained there
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return None
    config = AdapterConfig(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        base_fingerprint=fingerprint(model),
    )
    if not active:
        attach_adapter(model, config)
        return config
    before = read_adapter_config(root / HOME / "adapters" / active)
    if before.rank != config.rank or before.alpha != config.alpha:
        raise LifelongError(
            f"a lesson goes on from the adapter in use, '{active}': rank {before.rank}, alpha {before.alpha:g}",
            fix=f"Use --lora-rank {before.rank} --lora-alpha {before.alpha:g}.",
        )
    return config


def _plan(lesson: Lesson) -> tuple[Loader, Plan, float]:
    settings, length = lesson.settings, lesson.sequence_length
    cache = build_cache(lesson.corpus.train, lesson.tokenizer, lesson.run.path / "cache" / "train")
    new: RowSource = (ChatSource if cache.has_mask else WindowSource)(cache, length)
    replayed: list[tuple[RowSource, float]] = []
    if settings.replay_share and lesson.memory.counts():
        place = lesson.run.path / "cache" / "replay"
        replayed = replay_sources(lesson.memory, lesson.tokenizer, place, length, settings.replay_share)
    elif settings.replay_share:
        progress.note("note: the replay memory is empty, so nothing is replayed")
    share = 1.0 - sum(weight for _, weight in replayed)
    loader = Loader([(new, share), *replayed], batch_size=settings.batch_size, seed=settings.seed)
    optimizer = OptimizerSettings(
        name="adamw" if lesson.adapter else "muon",
        learning_rate=settings.learning_rate or _rate(lesson),
        weight_decay=0.0 if lesson.adapter else 0.1,
    )

    def make(total: int = 0) -> Plan:
        return Plan(
            total_steps=total,
            optimizers=build_optimizers(lesson.model, optimizer, bf16=lesson.bf16, adapters=bool(lesson.adapter)),
            rate=schedule(ScheduleSettings(kind="linear"), total, learning_rate(optimizer)),
            accumulate=settings.gradient_accumulation_steps,
            bf16=lesson.bf16,
        )

    seconds = measure_step(lesson.model, loader, make)
    rows = settings.batch_size * settings.gradient_accumulation_steps
    if settings.steps is not None:
        steps = settings.steps
    elif settings.minutes is not None:
        steps = steps_in(settings.minutes, seconds)
    else:
        assert settings.epochs is not None  # settings fill it in
        steps = steps_of(settings.epochs, loader.epoch_rows, rows)
    compiled = compile_blocks(lesson.model, settings.compile, steps * seconds)
    replay = f", {1 - share:.0%} of it replay" if replayed else ", no replay"
    weights = f"Adapter {lesson.name}" if lesson.adapter else "All weights"
    progress.note(
        f"{weights}: {steps} steps of {rows} x {length} tokens{replay}, "
        f"{steps * rows / loader.epoch_rows:.2f} epochs, about {steps * seconds / 60:.1f} minutes; compile {compiled}"
    )
    lesson.run.record(
        status="running",
        steps=steps,
        step_seconds_estimate=seconds,
        compile=compiled,
        precision="bf16" if lesson.bf16 else "fp32",
        bytes_per_token=cache.bytes_per_trained_token,
        learning_rate=learning_rate(optimizer),
    )
    return loader, make(steps), seconds


def _rate(lesson: Lesson) -> float:
    """Warm up again to the highest rate that the model was trained at (Ibrahim et al. 2024, arXiv:2403.08763).

    A model that was not trained here from the start is likely a large one, and takes a low rate.
    """
    state = lesson.store.state()
    return 2e-4 if "pretrained" in state else float(state.get("peak_learning_rate") or 2e-4)


def _teach(lesson: Lesson, loader: Loader, plan: Plan, step_seconds: float) -> LessonResult:
    settings = lesson.settings
    known = list(lesson.store.state().get("domains", []))
    lesson.test, lesson.gate = read_slices(lesson.root, known, "test"), read_slices(lesson.root, known, "gate")
    lesson.test.setdefault(settings.domain, lesson.corpus.test)
    lesson.gate.setdefault(settings.domain, lesson.corpus.gate)
    lesson.test = {domain: documents for domain, documents in lesson.test.items() if documents}
    lesson.gate = {domain: documents for domain, documents in lesson.gate.items() if documents}
    test_before = lesson.measure(lesson.test, "Measuring before the lesson")
    gate_before = lesson.measure(lesson.gate, "Measuring the gate")
    pull = _pull(lesson)
    plan.pull = pull
    bytes_per_token = lesson.run.facts["bytes_per_token"]
    drive = Drive(run=lesson.run, label=f"Lesson: {settings.domain}", bytes_per_token=bytes_per_token)
    with graceful_interrupts() as stop:
        seconds = drive.steps(lesson.model, loader, plan, stop)
    lesson.model.eval()
    test_after = lesson.measure(lesson.test, "Measuring after the lesson")
    gate_after = lesson.measure(lesson.gate, "Measuring the gate")
    changes = {domain: change(gate_before[domain], gate_after[domain]) for domain in lesson.gate}
    decision = decide(changes, settings.domain, tolerance=settings.tolerance)
    damage = pull.predicted_damage().item() if pull else None
    matrix = extend_matrix(
        lesson.store.state().get("matrix"),
        {domain: item.bits_per_byte for domain, item in test_before.items()},
        {domain: item.bits_per_byte for domain, item in test_after.items()},
        settings.domain,
    )
    result = LessonResult(
        model=lesson.root,
        run=lesson.run.path,
        domain=settings.domain,
        session=1 + sum(event["event"] == "lesson" for event in lesson.store.history()),
        accepted=decision.accepted or settings.accept,
        decision=decision,
        matrix=matrix,
        changes=changes,
        steps=plan.total_steps,
        tokens=sum(row["tokens"] for row in lesson.run.metrics()),
        seconds=seconds,
        predicted_damage=damage,
    )
    commit_lesson(lesson, result)
    lesson.run.record(status="finished", **result.to_dict())
    return result


def _pull(lesson: Lesson) -> ElasticPull | None:
    if not lesson.settings.use_ewc or not lesson.settings.ewc_lambda:
        return None
    if not lesson.memory.counts():
        progress.note("note: EWC needs remembered text, and there is none; it is off")
        return None
    length = min(256, lesson.sequence_length)
    place = lesson.run.path / "cache" / "replay"
    sources = replay_sources(lesson.memory, lesson.tokenizer, place, length, 1.0)
    loader = Loader(sources, batch_size=_FISHER_ROWS, seed=lesson.settings.seed + 1)
    generator = torch.Generator(lesson.model.device).manual_seed(lesson.settings.seed)
    count = lesson.settings.fisher_batches
    with progress.task("Finding what the old domains need (Fisher)", total=count) as shown:

        def batches() -> Iterator[Batch]:
            for number in range(count):
                yield loader.batch(number)
                shown.update(done=number + 1)

        fisher = fisher_diagonal(lesson.model, batches(), generator)
    return ElasticPull.towards_now(lesson.model, fisher, lesson.settings.ewc_lambda)
