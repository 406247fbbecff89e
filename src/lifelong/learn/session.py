"""One lesson: a domain's text taught to a model directory, measured against all it knew, and kept or undone.

A lesson is ordinary training with three choices: which data (the new text mixed with replay), which weights (an adapter
or all), and which pull (EWC).
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lifelong import progress
from lifelong.device import pick_device, pick_precision
from lifelong.errors import LifelongError
from lifelong.evaluate.bits import Score
from lifelong.evaluate.matrix import Matrix
from lifelong.files import write_json, writer_lock
from lifelong.learn.ewc import ElasticPull, fisher_diagonal
from lifelong.learn.gate import Change, Decision, change, decide
from lifelong.learn.ledger import extend_matrix
from lifelong.learn.measure import Slices, measure, read_slices
from lifelong.model.adapters import AdapterConfig, attach_adapter, merge_adapter, read_adapter_config, save_adapter
from lifelong.model.directory import find_model, fingerprint, load_model, model_card, write_model_files
from lifelong.model.store import HOME, ModelStore
from lifelong.model.transformer import Transformer
from lifelong.settings.learn import LearnSettings
from lifelong.settings.train import OptimizerSettings, ScheduleSettings
from lifelong.text.corpus import Corpus, open_corpus
from lifelong.text.document import DataSource, Document
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.loader import Batch, Loader
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import ChatSource, RowSource, WindowSource
from lifelong.tokens.shards import build_cache
from lifelong.tokens.tokenizer import BPETokenizer
from lifelong.train.drive import Drive
from lifelong.train.folder import RunFolder
from lifelong.train.founding import MEMORY, stage_domain, write_state
from lifelong.train.loop import Plan
from lifelong.train.optim import build_optimizers, learning_rate, schedule
from lifelong.train.planning import compile_blocks, measure_step, steps_in, steps_of

# Rows of 256 tokens in a batch that the Fisher information is estimated on: small batches, see `fisher_diagonal`.
_FISHER_ROWS = 2


@dataclass(frozen=True)
class LessonResult:
    """What a lesson did, kept or not. Matrix and scores are of the test slices, changes of the gate slices."""

    model: Path
    run: Path
    domain: str
    session: int
    accepted: bool
    decision: Decision
    matrix: Matrix
    changes: dict[str, Change]
    steps: int
    tokens: int
    seconds: float
    predicted_damage: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "model": str(self.model),
            "run": str(self.run),
            "domain": self.domain,
            "session": self.session,
            "accepted": self.accepted,
            "reasons": self.decision.reasons,
            "matrix": self.matrix.to_dict(),
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "predicted_damage": self.predicted_damage,
        }

    def summary(self) -> str:
        """Return a few lines for the screen."""
        word = "kept" if self.accepted else "undone: the model is as it was"
        return "\n".join(
            [f"Lesson {self.session} ({self.domain}) {word}.", *(f"  {line}" for line in self.decision.reasons)]
        )


@dataclass
class _Lesson:
    """A lesson in the making."""

    root: Path
    store: ModelStore
    settings: LearnSettings
    corpus: Corpus
    model: Transformer
    tokenizer: BPETokenizer
    adapter: AdapterConfig | None
    memory: ReplayMemory
    bf16: bool
    run: RunFolder
    test: Slices = field(default_factory=dict)
    gate: Slices = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.settings.adapter_name or self.settings.domain

    @property
    def sequence_length(self) -> int:
        longest = self.model.config.max_seq_len
        return min(self.settings.sequence_length or longest, longest)

    def measure(self, slices: Slices, title: str) -> dict[str, Score]:
        return measure(
            self.model,
            self.tokenizer,
            slices,
            title=title,
            sequence_length=self.sequence_length,
            max_bytes=self.settings.max_bytes,
        )


def learn(model: Path, sources: list[str], settings: LearnSettings, *, dry_run: bool = False) -> LessonResult | None:
    """Teach a model directory one domain; commits the lesson, or undoes it, and records it either way.

    Args:
        model: a model directory.
        sources: ``PATH[:KIND][@WEIGHT]``, or a prepared directory.
        dry_run: say what would be done and how long it takes, change nothing, and return None.

    Raises:
        LifelongError: there is no text, or the rank does not fit; the model is untouched.
        Interrupted: Ctrl-C; the model is untouched.
    """
    root = find_model(Path(model))
    corpus = open_corpus([DataSource.parse(item) for item in sources], domain=settings.domain)
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
        lesson = _Lesson(root, store, settings, corpus, network, tokenizer, adapter, memory, precision == "bf16", run)
        loader, plan, step_seconds = _plan(lesson)
        if dry_run:
            return None
        return _teach(lesson, loader, plan, step_seconds)


def _choose_weights(root: Path, store: ModelStore, model: Transformer, settings: LearnSettings) -> AdapterConfig | None:
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


def _plan(lesson: _Lesson) -> tuple[Loader, Plan, float]:
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


def _rate(lesson: _Lesson) -> float:
    """A model trained here is small and takes a high rate; a loaded one a low one."""
    return 1e-3 if lesson.store.state().get("peak_learning_rate") else 2e-4


def _teach(lesson: _Lesson, loader: Loader, plan: Plan, step_seconds: float) -> LessonResult:
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
    seconds = drive.steps(lesson.model, loader, plan)
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
    _commit(lesson, result)
    lesson.run.record(status="finished", **result.to_dict())
    return result


def _pull(lesson: _Lesson) -> ElasticPull | None:
    if not lesson.settings.use_ewc or not lesson.settings.ewc_lambda:
        return None
    if not lesson.memory.counts():
        progress.note("note: EWC needs remembered text, and there is none; it is off")
        return None
    length = min(256, lesson.sequence_length)
    place = lesson.run.path / "cache" / "replay"
    sources = replay_sources(lesson.memory, lesson.tokenizer, place, length, 1.0)
    loader = Loader(sources, batch_size=_FISHER_ROWS, seed=lesson.settings.seed + 1)
    generator = torch.Generator(lesson.model.model.embed_tokens.weight.device).manual_seed(lesson.settings.seed)
    count = lesson.settings.fisher_batches
    with progress.task("Finding what the old domains need (Fisher)", total=count) as shown:

        def batches() -> Iterator[Batch]:
            for number in range(count):
                yield loader.batch(number)
                shown.update(done=number + 1)

        fisher = fisher_diagonal(lesson.model, batches(), generator)
    return ElasticPull.towards_now(lesson.model, fisher, lesson.settings.ewc_lambda)


def _commit(lesson: _Lesson, result: LessonResult) -> None:
    """Record the lesson; switch the model to it only if it was accepted."""
    settings, store = lesson.settings, lesson.store
    record = f"{HOME}/sessions/{result.session:04d}-{settings.domain}.json"
    event = {
        "event": "lesson",
        "session": result.session,
        "domain": settings.domain,
        "accepted": result.accepted,
        "mode": settings.mode,
        "adapter": lesson.name if lesson.adapter else None,
        "run": result.run.relative_to(lesson.root).as_posix(),
        "reasons": result.decision.reasons,
    }
    with store.staging() as staged:
        if result.accepted:
            _stage_model(lesson, result, staged)
        facts = {
            **result.to_dict(),
            "model": None,
            "run": event["run"],
            "data_sha256": _digest(lesson.corpus.train),
            "settings": settings.model_dump(mode="json"),
            "flops": result.tokens * lesson.model.config.flops_per_token(lesson.sequence_length),
        }
        write_json(staged / record, facts)
        dropped = (f"{HOME}/adapters/",) if result.accepted and not lesson.adapter else ()
        store.commit(staged, event, remove=dropped)


def _stage_model(lesson: _Lesson, result: LessonResult, staged: Path) -> None:
    settings, state = lesson.settings, lesson.store.state()
    known = list(state.get("domains", []))
    if lesson.adapter:
        save_adapter(lesson.model, lesson.adapter, staged / HOME / "adapters" / lesson.name)
    else:
        write_model_files(lesson.model, lesson.tokenizer, staged)
    facts = stage_domain(
        staged, lesson.store, lesson.corpus, settings.domain, capacity=settings.replay_buffer_size, seed=settings.seed
    )
    domains = known if settings.domain in known else [*known, settings.domain]
    state.update(
        format=1,
        domains=domains,
        active_adapter=lesson.name if lesson.adapter else None,
        memory=facts["memory"],
        matrix=result.matrix.to_dict(),
    )
    if not lesson.adapter:
        state["base_fingerprint"] = fingerprint(lesson.model)
    write_state(staged, state)
    card = {"domains": ", ".join(domains), "active adapter": state["active_adapter"], "matrix": result.matrix.to_dict()}
    (staged / "README.md").write_text(model_card(lesson.root.name, card), encoding="utf-8")


def _digest(documents: list[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document.text.encode("utf-8") + b"\0")
    return digest.hexdigest()
