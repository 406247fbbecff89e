"""Which stages a pipeline has, from its settings and what is there: own text, the usual sets, caches, or one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from lifelong.errors import LifelongError
from lifelong.model.hub import base_directory
from lifelong.pipeline.closing import EvaluateStage, ExportStage
from lifelong.pipeline.notes import Notes
from lifelong.pipeline.text import CachesStage, Sources, TokenizerStage, caches_hash, check_mixture
from lifelong.pipeline.training import TrainingStage, text_hash
from lifelong.settings.mixing import CacheFolders
from lifelong.settings.pipeline import PipelineSettings
from lifelong.settings.train import TrainSettings
from lifelong.text.document import DataSource
from lifelong.tokens.cache_sets import GROUPS, default_name
from lifelong.tokens.mixture import list_caches

Phase = Literal["pretrain", "sft"]
_PHASES: tuple[Phase, ...] = ("pretrain", "sft")


class Stage(Protocol):
    """One stage: what it follows from, what is wrong with what it left, and doing it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose output it reads."""

    def inputs(self) -> dict[str, Any]:
        """Return what its result follows from; equal inputs, equal result."""

    def problem(self) -> str | None:
        """Return what is wrong with its output on disk; None where that is whole."""

    def begin(self) -> dict[str, Any]:
        """Return facts to note before it runs."""

    def run(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """Do it, and return what came out; ``begun`` are the facts of an interrupted run of the same inputs."""


@dataclass
class Layout:
    """The stages of a pipeline in their order, and facts about them that are said beforehand."""

    stages: list[Stage]
    training: dict[str, TrainSettings] = field(default_factory=dict)  # by the name of the stage
    sources: Sources | None = None
    says: list[str] = field(default_factory=list)


def lay_out(out: Path, home: Path, settings: PipelineSettings, notes: Notes, skip: tuple[str, ...]) -> Layout:
    """Decide which stages there are.

    Raises:
        LifelongError: there is nothing to train on, a settings file or a source is wrong.
    """
    if settings.data_file:
        return _single(out, home, settings, notes, skip)
    phases = tuple(phase for phase in _PHASES if _wanted(phase, settings))
    if not phases:
        raise LifelongError("there is nothing to train on", fix="Name text with --data, conversations with --chat.")
    runs = {phase: settings.stage(phase) for phase in phases}
    if "pretrain" not in runs and not settings.base:
        raise LifelongError(
            "there are conversations only, and no model to tune",
            fix="Name running text too, with --data, or a model with --base.",
        )
    layout = Layout([], {str(phase): run for phase, run in runs.items()})
    named = {phase: run.profile for phase, run in runs.items() if run.profile is not None}
    if settings.profile is None and named:
        layout.says.append(f"profiles: {', '.join(f'{phase} {name}' for phase, name in named.items())}")
    if settings.base:
        sources = {"pretrain": tuple(settings.data), "sft": tuple(settings.chat)}
        reading: dict[str, dict[str, Any]] = {
            phase: {"settings": partial(_same, runs[phase]), "text": partial(text_hash, sources[phase])}
            for phase in phases
        }
        layout.sources = Sources.of(settings)
        tokenizer = _given(settings.tokenizer)
        needs: tuple[str, ...] = ()
    else:
        reading, tokenizer, needs = _cached(home, settings, notes, runs, layout, skip)
        sources = {"pretrain": (), "sft": ()}
    for phase in phases:
        first = phase == phases[0]
        stage = TrainingStage(
            name=phase,
            needs=needs if first else (*needs, phases[0]),
            out=out,
            notes=notes,
            data=sources[phase],
            tokenizer=tokenizer,
            base=base_of(settings),
            after=None if first else phases[0],
            last=phase == phases[-1] or (first and "sft" in skip),
            fresh=first,
            onnx=_given(settings.onnx_output),
            **reading[phase],
        )
        layout.stages.append(stage)
    _close(layout, out, home, settings, notes, skip)
    return layout


def _single(out: Path, home: Path, settings: PipelineSettings, notes: Notes, skip: tuple[str, ...]) -> Layout:
    """Return the stages of training on one file, further what ``out`` holds."""
    file = str(settings.data_file)
    run = settings.stage("pretrain")
    if run.domain is None:  # each file is a body of knowledge of its own, with a column in the matrix
        run = run.model_copy(update={"domain": default_name([DataSource.parse(file)])})
    stage = TrainingStage(
        name="train",
        needs=(),
        out=out,
        notes=notes,
        settings=partial(_same, run),
        text=partial(text_hash, (file,)),
        data=(file,),
        tokenizer=_given(settings.tokenizer),
        base=base_of(settings),
        onnx=_given(settings.onnx_output),
    )
    layout = Layout([stage], {"train": run})
    _close(layout, out, home, settings, notes, skip)
    return layout


def _cached(
    home: Path,
    settings: PipelineSettings,
    notes: Notes,
    runs: Mapping[Phase, TrainSettings],
    layout: Layout,
    skip: tuple[str, ...],
) -> tuple[dict[str, dict[str, Any]], Path | None, tuple[str, ...]]:
    """Lay out tokenizer and caches; returns what each run reads, the tokenizer, and the stages that runs need."""
    tokenizer = _given(settings.tokenizer)
    folders = _folders(settings, runs)
    # Caches that an earlier call began to build where the settings say are this pipeline's own.
    building = notes.get("caches") is not None and not settings.cache_dir
    given = set() if building else {phase for phase, folder in folders.items() if list_caches(folder, phase)}
    if given and given != set(runs):
        lacking = next(phase for phase in runs if phase not in given)
        raise LifelongError(
            f"there are no caches for {lacking}, while those for {', '.join(given)} are there",
            where=str(folders.get(lacking, settings.cache_dir)),
            fix=f"Build them with the same tokenizer: `lifelong cache build`, or leave the stage out: --skip {lacking}."
            if lacking not in skip
            else None,
        )
    if given:
        layout.says += [f"caches of {phase}: {folders[phase]}, as they are" for phase in runs]
        root: Path | None = None
        needs: tuple[str, ...] = ()
    else:
        layout.sources = Sources.of(settings)
        root = _root(folders) or home / "caches"
        if tokenizer is None:
            tokenizer = home / "tokenizer"
            layout.stages.append(TokenizerStage(tokenizer, layout.sources, settings))
        else:
            layout.says.append(f"tokenizer: {tokenizer}, as it is")
        for phase in runs:
            if runs[phase].data.mix and len({source.weight for source in layout.sources.of_phase(phase)}) > 1:
                layout.says.append(f"note: the weights of the sources have no effect: {phase} names a mixture")
        named: dict[str, bool] = {phase: phase in runs and runs[phase].data.mix is not None for phase in _PHASES}
        needs = ("tokenizer",) if layout.stages else ()
        caches = CachesStage(root, layout.sources, settings, tokenizer, named, needs=needs)
        layout.stages.append(caches)
        needs = ("caches",)

    def run_of(phase: Phase) -> TrainSettings:
        if root is None:
            return reading(runs[phase], folders[phase], None)
        return reading(runs[phase], root / phase, caches.weights(phase) if runs[phase].data.mix is None else None)

    def text_of(phase: Phase) -> str:
        missing = (notes.done("caches") or {}).get("missing", {})
        # Both mixtures, before hours of pretraining: what chat tuning lacks would only be found after them.
        for each in runs:
            if each not in skip:
                check_mixture(run_of(each), missing if root is not None else {})
        return caches_hash(folders[phase] if root is None else root / phase, phase)

    return (
        {phase: {"settings": partial(run_of, phase), "text": partial(text_of, phase)} for phase in runs},
        tokenizer,
        needs,
    )


def _close(
    layout: Layout, out: Path, home: Path, settings: PipelineSettings, notes: Notes, skip: tuple[str, ...]
) -> None:
    # What is measured and exported is the model of the last stage that trains; one that is skipped leaves none.
    trained = list(layout.training)
    last = next((name for name in reversed(trained) if name not in skip), trained[-1])
    run = layout.training[last]
    about = {"trained on": _about(settings)}
    layout.stages += [
        EvaluateStage(out, home, settings.device, run.evaluation.max_bytes, (last,)),
        ExportStage(out, home, notes, about, _given(settings.onnx_output), (last, "evaluate")),
    ]


def _about(settings: PipelineSettings) -> str:
    if settings.data_file:
        return Path(settings.data_file).name
    own = [*settings.data, *settings.chat]
    named = [Path(item).name for item in own] or [f"caches in {settings.cache_dir}"] * bool(settings.cache_dir)
    return ", ".join(named) or "the sets that its caches are named after"


def _wanted(phase: Phase, settings: PipelineSettings) -> bool:
    if settings.data or settings.chat:
        return bool(settings.data if phase == "pretrain" else settings.chat)
    if settings.cache_dir:
        return bool(list_caches(settings.cache_dir, phase))
    return True


def _folders(settings: PipelineSettings, runs: Mapping[Phase, TrainSettings]) -> dict[Phase, Path]:
    """Return the folders of caches that settings name, by phase; own text is cached anew, whatever they name."""
    if settings.data or settings.chat:
        return {}
    found: dict[Phase, Path] = {}
    for phase, run in runs.items():
        if folder := settings.cache_dir or run.data.folder(phase):
            found[phase] = Path(folder).expanduser()
    return found


def _root(folders: Mapping[Phase, Path]) -> Path | None:
    """Return the folder of all caches that folders of phases lie in: where to build what settings only name."""
    roots = {folder.parent if folder.name in GROUPS else folder for folder in folders.values()}
    return roots.pop() if len(roots) == 1 else None


def reading(run: TrainSettings, folder: Path, weights: dict[str, float] | None) -> TrainSettings:
    """Return the settings of a run with the folder of caches that it reads, and what weighs how much in it."""
    folders = CacheFolders(pretrain_token_cache=str(folder), sft_token_cache=str(folder))
    changes: dict[str, Any] = {"caches": folders, "cache_dir": None}
    if weights is not None:
        changes["mix"] = weights
    return run.model_copy(update={"data": run.data.model_copy(update=changes)})


def base_of(settings: PipelineSettings) -> Path | None:
    """Return the model that a pipeline starts from, where settings name one."""
    given = _given(settings.base)
    return None if given is None else base_directory(given)


def _given(path: str | None) -> Path | None:
    return Path(path).expanduser() if path else None


def _same(run: TrainSettings) -> TrainSettings:
    return run
