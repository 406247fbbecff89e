"""The stages that train: each one run in the model directory, gone on with after a kill."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import check_manifest, sha256_file
from lifelong.model.directory import CONFIG, find_model, is_model_directory
from lifelong.model.store import ModelStore
from lifelong.model.weights import TORCH_WEIGHTS, WEIGHTS
from lifelong.pipeline.notes import Notes
from lifelong.settings.train import TrainSettings
from lifelong.text.document import DataSource
from lifelong.text.sources import expand_sources
from lifelong.tokens.cache_sets import source_hash
from lifelong.train.folder import RUNS, RunFolder

_FINAL = "final"
# Where and how often, not what: the same weights come of other ones.
_ASIDE = {"device", "threads", "compile", "checkpoint", "tracking", "profile"}
_MODEL_FILES = (WEIGHTS, CONFIG, "tokenizer")


@dataclass(frozen=True)
class TrainingStage:
    """One run: pretraining, chat tuning, or training on a single file.

    Attributes:
        settings: of the run; asked for when all that it reads is there.
        text: a hash of what it reads, likewise.
        data: sources of text; empty where the settings name caches.
        base: a model that the pipeline is to start from.
        after: the stage whose model this one goes on from.
        last: no other stage trains after it, so that its model is the pipeline's.
        fresh: a model in ``out`` is replaced (and kept in its history), not trained further.
    """

    name: str
    needs: tuple[str, ...]
    out: Path
    notes: Notes
    settings: Callable[[], TrainSettings]
    text: Callable[[], str]
    data: tuple[str, ...] = ()
    tokenizer: Path | None = None
    base: Path | None = None
    after: str | None = None
    last: bool = True
    fresh: bool = False
    onnx: Path | None = None

    def inputs(self) -> dict[str, Any]:
        """Return what the weights follow from."""
        settings = self.settings()
        aside = _ASIDE if settings.early_stopping.on else {*_ASIDE, "evaluation"}
        # Without defaults: a setting that a later version adds asks for nothing to be done again.
        values = settings.model_dump(mode="json", exclude=aside, exclude_defaults=True)
        for key in ("caches", "cache_dir"):  # what they hold counts, not where they lie
            values.get("data", {}).pop(key, None)
        before = self.notes.done(self.after) if self.after else None
        origin = before["weights"] if before else weights_of(self.base) if self.base else None
        return {"text": self.text(), "start": origin, "settings": values}

    def problem(self) -> str | None:
        """Return what is wrong with the model that this stage left."""
        result = self.notes.done(self.name)
        if result is None:
            return "its model was never made"
        committed = self._is_committed(result)
        if not self.last:
            return None if committed or self._final(result) else "its model is not there any more"
        if not committed:
            return f"its model is not in {self.out} any more"
        return damage(self.out)

    def begin(self) -> dict[str, Any]:
        """Return the number of the newest run before this stage's own."""
        return {"runs_before": max(map(_number, (self.out / RUNS).glob("*")), default=0)}

    def run(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """Train; where ``begun`` notes an interrupted run of the same, go on with it, bit for bit."""
        from lifelong.train.run import resume, train

        folder = self._begun(int(begun["runs_before"])) if begun is not None else None
        if folder is None or not (folder.resumable() or _finished(folder)):
            if folder is not None:
                progress.note(f"note: {folder.path} was stopped before its first checkpoint; the run begins anew")
            start = self._start()
            self._say_lessons()
            result = train(
                list(self.data),
                self.out,
                self.settings(),
                tokenizer=self.tokenizer,
                base=start,
                fresh=self.fresh and start is None,
                onnx=self.onnx,
            )
            folder = RunFolder(result.run)
        elif not _finished(folder):
            folder = RunFolder(resume(folder.path).run)
        _draw(folder, self.out)
        return self._result(folder)

    def _begun(self, before: int) -> RunFolder | None:
        """Return the newest run that this stage began."""
        phase = self.settings().phase
        runs = [path for path in (self.out / RUNS).glob(f"*-{phase}") if _number(path) > before]
        return RunFolder(max(runs, key=_number)) if runs else None

    def _start(self) -> Path | None:
        """Return the model to start from; None for what ``out`` holds, or nothing.

        Raises:
            LifelongError: the model of the stage before is not there any more.
        """
        before = self.notes.done(self.after) if self.after else None
        if before is None:
            return self.base
        if ModelStore.open(self.out).files().get(WEIGHTS, {}).get("sha256") == before["weights"]:
            return None
        if final := self._final(before):
            return final
        raise LifelongError(
            f"the model of the stage '{self.after}' is not there any more",
            where=str(self.out / before["run"] / _FINAL),
            fix=f"Make it again: --redo {self.after}.",
        )

    def _say_lessons(self) -> None:
        """Say that lessons taught since go with the model that is replaced; training further keeps them."""
        store = ModelStore.open(self.out)
        taught = [event for event in store.history() if event["event"] == "lesson" and event["accepted"]]
        if taught and self.name != "train":
            domains = ", ".join(dict.fromkeys(str(event["domain"]) for event in taught))
            progress.note(
                f"note: the new model knows nothing of lessons taught since ({domains}): its history keeps them"
            )

    def _final(self, result: Mapping[str, Any]) -> Path | None:
        place = self.out / result["run"] / _FINAL
        whole = place.is_dir() and check_manifest(place) is None
        return place if whole and sha256_file(place / WEIGHTS) == result["weights"] else None

    def _is_committed(self, result: Mapping[str, Any]) -> bool:
        if not is_model_directory(self.out):
            return False
        try:
            files = ModelStore.open(self.out).files(int(result["generation"]))
        except LifelongError:
            return False
        return bool(files.get(WEIGHTS, {}).get("sha256") == result["weights"])

    def _result(self, folder: RunFolder) -> dict[str, Any]:
        store, facts = ModelStore.open(self.out), folder.facts
        run = folder.path.relative_to(self.out).as_posix()
        generation = next(event["generation"] for event in reversed(store.history()) if event.get("run") == run)
        return {
            "run": run,
            "generation": generation,
            "weights": store.files(generation)[WEIGHTS]["sha256"],
            **{key: facts[key] for key in ("parameters", "steps", "tokens", "before", "after", "early_stopped")},
            "train_seconds": facts["seconds"],
        }


def text_hash(data: tuple[str, ...]) -> str:
    """Return a hash of sources as a run names them: what they hold, and their weights."""
    sources: list[DataSource] = expand_sources(data)
    return f"{source_hash(sources)} {[source.weight for source in sources]}"


def weights_of(model: Path) -> str:
    """Return the SHA-256 of the weights' file of a model.

    Raises:
        LifelongError: there is no model.
    """
    place = find_model(model)
    return sha256_file(next(place / name for name in (WEIGHTS, TORCH_WEIGHTS) if (place / name).is_file()))


def damage(out: Path) -> str | None:
    """Return what is damaged of the weights, configuration or tokenizer of the model directory ``out``."""
    found = ModelStore.open(out).damage()
    return next((line for line in found if line.startswith(_MODEL_FILES)), None)


def _number(run: Path) -> int:
    match = re.match(r"\d+", run.name)
    return int(match[0]) if match else 0


def _finished(folder: RunFolder) -> bool:
    return (folder.path / "run.json").is_file() and bool(folder.facts["status"] == "finished")


def _draw(folder: RunFolder, out: Path) -> None:
    from lifelong.settings.load import load_settings

    if load_settings(TrainSettings, folder.path / "resolved_settings.yaml").tracking.plots:
        from lifelong.report.run_pictures import draw_run

        draw_run(folder.metrics(), folder.path / "plots", title=f"{out.resolve().name}, {folder.path.name}")
