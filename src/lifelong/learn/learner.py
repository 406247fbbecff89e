"""`ContinualLearner`: lessons from Python, on a model directory that it keeps for itself until it is saved."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory
from lifelong.generate.engine import generate
from lifelong.learn.lesson import LessonResult
from lifelong.learn.session import learn
from lifelong.model.base import LanguageModel
from lifelong.model.directory import find_model, load_model
from lifelong.model.store import ModelStore
from lifelong.settings.learn import LearnSettings
from lifelong.text.corpus import Corpus
from lifelong.text.document import Document
from lifelong.tokens.base import Tokenizer
from lifelong.train.founding import commit_model
from lifelong.train.importing import import_model
from lifelong.train.start import Origin

# A model made in Python has no record of the rate it was trained at.
_RATE = 1e-3
_IGNORED = shutil.ignore_patterns("runs", ".lock")


class ContinualLearner:
    """A model that is taught one text after another, each lesson measured and kept or undone.

    Everything is done by `lifelong.learn.session.learn` on a model directory in a temporary place; `save_checkpoint`
    copies it to where it stays, and every verb of the command line works on that.

    Args:
        base_model: a model of ours; one of transformers (anything with ``save_pretrained``); or the path of a model
            directory. It is copied, and stays as it is.
        config: of the lessons: `lifelong.ContinualLearningConfig`, or a dictionary of its settings, with guide-style
            names (``lora_r``) or ours.
        tokenizer: the one that the model was trained with; not needed with a path.

    Raises:
        LifelongError: the model cannot be read, or its vocabulary is smaller than the tokenizer's.
    """

    def __init__(
        self,
        base_model: Any,
        config: LearnSettings | dict[str, Any] | None = None,
        tokenizer: Tokenizer | Any | None = None,
    ) -> None:
        self.config = LearnSettings.build(config) if isinstance(config, dict) else config or LearnSettings()
        self._folder = tempfile.TemporaryDirectory(prefix="lifelong-learner-")
        self.path = Path(self._folder.name) / "model"
        self._loaded: tuple[LanguageModel, Tokenizer] | None = None
        if isinstance(base_model, str | Path):
            shutil.copytree(find_model(Path(base_model)), self.path, ignore=_IGNORED)
        elif isinstance(base_model, LanguageModel):
            self._found(base_model, tokenizer)
        elif hasattr(base_model, "save_pretrained"):
            self._import(base_model, tokenizer)
        else:
            raise LifelongError(f"a {type(base_model).__name__} is no language model")

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        tokenizer: Tokenizer | Any | None = None,
        config: LearnSettings | dict[str, Any] | None = None,
    ) -> Self:
        """Return a learner that goes on from what `save_checkpoint` wrote, or from any model directory.

        Raises:
            LifelongError: there is no model, or ``tokenizer`` is another than the model's.
        """
        learner = cls(Path(path), config)
        learner._check(tokenizer)
        return learner

    @property
    def model(self) -> LanguageModel:
        """The model as it now answers, all adapters together."""
        return self._load()[0]

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self._load()[1]

    def learn_from_text(
        self,
        text: str | list[str],
        domain: str = "general",
        importance: float = 1.0,
        num_epochs: float | None = None,
        *,
        source: str | None = None,
        **settings: Any,
    ) -> LessonResult:
        """Teach a text; the result says what it did to every domain, and whether it was kept.

        Args:
            text: one text, or several.
            domain: the body of knowledge it belongs to.
            importance: its weight beside what is replayed, and in the replay memory.
            num_epochs: passes over it (default: the configuration's).
            source: the name that memory and history give it, by which it can be forgotten (default: the domain).
            settings: more of `LearnSettings`, for this lesson alone.

        Raises:
            LifelongError: there is no text in it, or a setting does not fit.
        """
        own = dict(settings) if num_epochs is None else {**settings, "epochs": num_epochs}
        given = self.config.model_dump(exclude_unset=True)
        if own.keys() & set(LearnSettings.exclusive):  # how long: what is said here takes the place of what was said
            given = {key: value for key, value in given.items() if key not in LearnSettings.exclusive}
        given |= {**own, "domain": domain, "importance": own.get("importance", self.config.importance) * importance}
        if given.get("mode", "auto") == "auto" and not ModelStore.open(self.path).state().get("domains"):
            given["mode"] = "adapter"  # nothing is known of the base's text: its weights stay as they are
        texts = _documents([text] if isinstance(text, str) else text, source or domain)
        result = learn(self.path, [], LearnSettings.build(given), texts=texts)
        assert isinstance(result, LessonResult)  # this is no dry run
        self._loaded = None
        return result

    def generate(
        self,
        prompt: str,
        max_length: int = 50,
        temperature: float = 0.8,
        top_p: float = 0.9,
        top_k: int = 50,
        seed: int | None = None,
    ) -> str:
        """Return a continuation of at most ``max_length`` new tokens, without the prompt."""
        model, tokenizer = self._load()
        return generate(
            model,
            tokenizer,
            prompt,
            max_tokens=max_length,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
        )[0]

    def save_checkpoint(self, path: str | Path) -> Path:
        """Write the model directory with its memory, adapters and history; one that lies there is replaced.

        Raises:
            LifelongError: ``path`` holds something else, or the disk refuses.
        """
        place = Path(path)
        if place.is_file():
            raise LifelongError("this is a file; a directory is needed", where=str(place))
        if place.exists() and not (place / "lifelong").is_dir() and any(place.iterdir()):
            raise LifelongError("this is no model directory of ours; it is not replaced", where=str(place))
        with atomic_directory(place, "model") as temporary:
            shutil.copytree(self.path, temporary, ignore=_IGNORED, dirs_exist_ok=True)
        (place / "manifest.json").unlink()  # the directory's own generations say what belongs to it
        return place

    def load_checkpoint(self, path: str | Path) -> None:
        """Go on from a saved model instead of the present one.

        Raises:
            LifelongError: there is no model at ``path``.
        """
        found = find_model(Path(path))
        shutil.rmtree(self.path)
        shutil.copytree(found, self.path, ignore=_IGNORED)
        self._loaded = None

    def _load(self) -> tuple[LanguageModel, Tokenizer]:
        if self._loaded is None:
            self._loaded = load_model(self.path, device=self.config.device)
        return self._loaded

    def _found(self, model: LanguageModel, tokenizer: Tokenizer | None) -> None:
        if tokenizer is None:
            raise LifelongError("a model needs its tokenizer", fix="ContinualLearner(model, config, tokenizer).")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise LifelongError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {model.config.vocab_size}",
                fix="Make the model with ModelConfig(vocab_size=tokenizer.vocab_size, ...).",
            )
        self.path.mkdir()
        origin = Origin("new", learning_rate=_RATE, reason="made in Python")
        commit_model(self.path, model, tokenizer, Corpus(), origin, domain=None, event={"event": "founded"})

    def _import(self, model: Any, tokenizer: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="lifelong-base-") as folder:
            model.save_pretrained(folder)
            if hasattr(tokenizer, "save_pretrained"):
                tokenizer.save_pretrained(folder)
            elif isinstance(tokenizer, Tokenizer):
                tokenizer.write_files(Path(folder))
            import_model(Path(folder), self.path)

    def _check(self, tokenizer: Tokenizer | Any | None) -> None:
        if tokenizer is None:
            return
        if hasattr(tokenizer, "get_vocab"):  # one of transformers: an import may have added the tokens of a chat
            number = self.tokenizer.library.token_to_id
            same = all(number(piece) == given for piece, given in tokenizer.get_vocab().items())
        else:
            same = tokenizer.fingerprint == self.tokenizer.fingerprint
        if not same:
            raise LifelongError("the tokenizer is not the model's own", where=str(self.path))


def _documents(texts: list[str], source: str) -> list[Document]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise LifelongError("a text, or a list of texts, is needed", where=source, fix="Decode bytes; read files.")
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LifelongError(
                f"character {error.start} is half of a character (a surrogate): it cannot be written as UTF-8",
                where=source,
                fix="Decode the text anew, with errors='replace' for example.",
            ) from None
    return [Document(text, source, f"{source}-{number}.txt") for number, text in enumerate(texts)]
