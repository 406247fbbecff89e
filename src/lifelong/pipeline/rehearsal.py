"""What the trainings of a pipeline will read, counted before it begins: small text is cached aside by the same code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.model.directory import find_model, is_model_directory
from lifelong.pipeline.planning import Layout, Stage, reading
from lifelong.pipeline.text import CachesStage, TokenizerStage, check_mixture
from lifelong.pipeline.training import TrainingStage
from lifelong.settings.train import TrainSettings
from lifelong.text.document import DataSource
from lifelong.text.readers import list_files
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.mixture import NamedCache
from lifelong.train.cached import cache_text, open_caches
from lifelong.train.job import epoch_steps
from lifelong.train.run import new_words, read_text

SMALL = 5_000_000  # bytes of text that are tokenized and cached within seconds


@dataclass
class Rehearsal:
    """Does the stages before the trainings in a folder aside, where they would run and their text is small."""

    layout: Layout
    folder: Path
    # Of a new model: the entries of its tokenizer, where that is known.
    vocab_size: int | None = None
    _caches: CachesStage | None = None
    _tokenizer: Path | None = None
    _unknown: bool = field(default=False)  # text that is too large is to be cached

    def prepare(self, stage: Stage) -> None:
        """Do a stage that would run, where it makes the tokenizer or caches; what is found in the text is said."""
        if not isinstance(stage, TokenizerStage | CachesStage):
            return
        sources = stage.sources.all
        if self._unknown or stage.sources.usual is not None or not is_small(sources):
            if isinstance(stage, CachesStage):
                progress.note("  What the text holds, conversations among it, is known when it is cached.")
            self._unknown = True
            return
        if isinstance(stage, TokenizerStage):
            self._tokenizer = self.folder / "tokenizer"
            self.vocab_size = replace(stage, place=self._tokenizer).run(None)["vocab_size"]
        else:
            words = self._tokenizer or stage.tokenizer
            self._caches = replace(stage, root=self.folder / "caches", tokenizer=words)
            self._caches.run(None)

    def steps(self, stage: TrainingStage, run: TrainSettings, length: int) -> int | None:
        """Return the steps of a training that is counted in epochs; None where they cannot be known yet.

        Raises:
            LifelongError: there is nothing for it to read: no conversations to tune on.
        """
        if stage.data:
            caches = self._of_text(stage, run)
        elif self._unknown:
            return None
        elif self._caches is not None:
            weights = self._caches.weights(run.phase) if run.data.mix is None else None
            run = reading(run, self._caches.root / run.phase, weights)
            try:
                check_mixture(run, {})
            except LifelongError as error:  # of the text that was named, not of a folder that is soon gone
                given = ", ".join(str(source.path) for source in self._caches.sources.of_phase(run.phase))
                raise LifelongError(error.what, where=given or None, fix=error.fix) from None
            caches = open_caches([], run)
        else:
            caches = open_caches([], stage.settings())
        if not caches or run.epochs is None:
            return None
        return epoch_steps(run, caches, length)

    def _of_text(self, stage: TrainingStage, run: TrainSettings) -> list[NamedCache]:
        """Cache the text of a run that reads it itself; nothing where it is large, or no tokenizer of it is at hand."""
        sources = [DataSource.parse(item) for item in stage.data]
        if not is_small(sources):
            progress.note("  What the text holds, conversations among it, is known when it is read.")
            return []
        corpus = read_text(list(stage.data), run)
        chats = sum(document.messages is not None for document in corpus.train)
        count = progress.spell_count(len(corpus.train), "document")
        progress.note(f"  {count} to train on, {chats or 'none'} of them conversations")
        try:
            words = self._words(stage) or new_words([], corpus, list(stage.data))
            self.vocab_size = words.vocab_size
        except LifelongError:
            return []  # of a base of another family: it is opened with its model
        return cache_text(corpus.train, words, self.folder / stage.name)

    def _words(self, stage: TrainingStage) -> Tokenizer | None:
        place = stage.tokenizer or (find_model(stage.base) if stage.base else None)
        if place is None and is_model_directory(stage.out) and not stage.fresh:
            place = stage.out
        return load_tokenizer(place) if place is not None else None


def is_small(sources: Sequence[DataSource]) -> bool:
    """Whether all text of sources lies here and is small enough to be cached for an estimate."""
    return not any(source.is_hub for source in sources) and size_of(sources) <= SMALL


def size_of(sources: Sequence[DataSource]) -> int:
    """Return the size of all files of sources that lie on this machine."""
    return sum(file.path.stat().st_size for source in sources if not source.is_hub for file in list_files(source).files)
