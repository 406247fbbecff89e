"""Answering a question with passages from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.generate.elsewhere import Elsewhere
from lifelong.generate.engine import generate, note_to_stderr
from lifelong.generate.manners import read_manners
from lifelong.model.directory import load_model
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.retrieve.passages import Hit
from lifelong.retrieve.store import SimpleDocumentStore
from lifelong.tokens.loading import load_tokenizer

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer

NOT_FOUND = "Not found: nothing in the store matches the question."
_INSTRUCTION = "Answer the question with these passages."


class Answer(str):
    """An answer: its text, and where it came from.

    Attributes:
        sources: the passages that the model read, the best first; ``[1]`` in the prompt is the first of them.
        prompt: what the model read, as text.
    """

    __slots__ = ("prompt", "sources")
    sources: tuple[Hit, ...]
    prompt: str

    @classmethod
    def of(cls, text: str, sources: Sequence[Hit] = (), prompt: str = "") -> Answer:
        """Return an answer with its sources."""
        answer = cls(text)
        answer.sources, answer.prompt = tuple(sources), prompt
        return answer

    @property
    def found(self) -> bool:
        """Whether there was something to answer with."""
        return bool(self.sources)

    @property
    def cited(self) -> str:
        """The text with its sources below it, each with its file and span."""
        lines = [f"[{number}] {hit.passage.place}" for number, hit in enumerate(self.sources, start=1)]
        return "\n".join([str(self), *(["", "Sources:", *lines] if lines else [])])


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads: token ids, the same as text, and the passages in it.

    ``shortened`` says whether the best passage had to be cut, and ``left_out`` how many found no room.
    """

    ids: list[int]
    text: str
    hits: list[Hit]
    left_out: int
    shortened: bool


class RAGModel:
    """A model that answers with passages of a store.

    Args:
        store: the passages; a `SimpleDocumentStore`, or its folder.
        model: a model, or the path of one.
        tokenizer: the model's; not needed for a model that was loaded from a directory.
        chat: whether the prompt is a conversation's; by default where the model was tuned on conversations.

    Raises:
        LifelongError: the model does not write, or its tokenizer is not known.
    """

    def __init__(
        self,
        store: SimpleDocumentStore | str | Path,
        model: LanguageModel | Elsewhere | str | Path,
        tokenizer: Tokenizer | None = None,
        *,
        chat: bool | None = None,
    ) -> None:
        self.store = SimpleDocumentStore.load(store) if isinstance(store, str | Path) else store
        if isinstance(model, str | Path):
            model, tokenizer = load_model(model)
        if tokenizer is None:
            if model.origin is None:
                raise LifelongError(
                    "the model was not loaded from a directory, so its tokenizer is not known",
                    fix="Give RAGModel(store, model, tokenizer).",
                )
            tokenizer = load_tokenizer(model.origin)
        if not isinstance(model, EncoderDecoderModel):
            model.config.require_causal("answer a question")
        self.model, self.tokenizer = model, tokenizer
        self.chat = _chats(model, tokenizer) if chat is None else chat

    def generate(
        self,
        query: str,
        top_k: int = 3,
        max_length: int = 100,
        temperature: float = 0.7,
        *,
        mode: str = "keyword",
        filters: Mapping[str, str | Sequence[str]] | None = None,
        on_text: Callable[[str], None] | None = None,
        on_note: Callable[[str], None] | None = None,
        **sampling: Any,
    ) -> Answer:
        """Answer a question with the passages that fit it best.

        Args:
            query: the question.
            top_k: passages at most, as far as they fit the model's context.
            max_length: new tokens at most.
            temperature: see `lifelong.generate.sampling.sample_next`.
            mode: see `SimpleDocumentStore.search`, also for ``filters``.
            filters: which sources are searched.
            on_text: called with pieces of the answer as they are written.
            on_note: called with remarks; standard error by default.
            sampling: ``top_p``, ``top_k`` of tokens as ``sample_top_k``, ``seed`` and others of
                `lifelong.generate.engine.generate`.

        Raises:
            LifelongError: the query holds no word or does not fit the context, or a setting is out of range.
        """
        note = on_note or note_to_stderr
        if "sample_top_k" in sampling:
            sampling["top_k"] = sampling.pop("sample_top_k")
        hits = self.find(query, top_k, mode, filters)
        if not hits:
            if on_text:
                on_text(NOT_FOUND)
            return Answer.of(NOT_FOUND)
        prompt = self.prompt(query, hits, max_length)
        if prompt.shortened:
            note("the best passage does not fit the model's context whole: its end is not read")
        if prompt.left_out:
            note(f"{prompt.left_out} of {len(hits)} passages do not fit the model's context and are not read")
        text = generate(
            self.model,
            self.tokenizer,
            prompt.ids,
            max_tokens=max_length,
            temperature=temperature,
            stop_ids=(self.tokenizer.end_of_turn_id,),
            banned_ids=self.tokenizer.role_token_ids,
            on_text=on_text,
            on_note=note,
            **sampling,
        )[0]
        return Answer.of(text, prompt.hits, prompt.text)

    def find(
        self,
        query: str,
        top_k: int = 3,
        mode: str = "keyword",
        filters: Mapping[str, str | Sequence[str]] | None = None,
    ) -> list[Hit]:
        """Return the passages that fit a question best, without those that say again what a better one says.

        See `SimpleDocumentStore.search`.
        """
        return _distinct(self.store.search(query, top_k, mode, filters))

    def prompt(self, query: str, hits: Sequence[Hit], max_tokens: int) -> Prompt:
        """Build what the model reads: as many passages as fit its context beside the question and the answer.

        The best come first. One that does not fit whole is left out; the best of all is cut at its end instead.

        Raises:
            LifelongError: the question alone does not fit.
        """
        apart = isinstance(self.model, EncoderDecoderModel)  # what it writes takes no room of what it reads
        room = self.model.config.max_seq_len - (0 if apart else max_tokens)
        empty = len(self._ids(query, []))
        if empty >= room:
            raise LifelongError(
                f"the question has {empty} tokens, the model can read {max(room, 0)} before its answer",
                fix="Ask a shorter question, or for a shorter answer (--max-tokens).",
            )
        taken: list[Hit] = []
        texts: list[str] = []
        shortened = False
        for hit in hits:
            text = _with_headings(hit)
            if len(self._ids(query, [*texts, text])) > room:
                if taken:
                    continue
                text = self._shorten(query, text, room)
                if not text:
                    break
                shortened = True
            taken.append(hit)
            texts.append(text)
        return Prompt(
            self._ids(query, texts), _wording(query, texts, self.chat), taken, len(hits) - len(taken), shortened
        )

    def _shorten(self, query: str, text: str, room: int) -> str:
        """Return the longest beginning of a text, in characters, that fits."""
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._ids(query, [text[:middle]])) <= room:
                low = middle
            else:
                high = middle - 1
        return text[:low].rstrip()

    def _ids(self, query: str, texts: Sequence[str]) -> list[int]:
        wording = _wording(query, texts, self.chat)
        if isinstance(self.model, EncoderDecoderModel):
            return self.model.prompt_ids(self.tokenizer, wording)
        if self.chat:
            return self.tokenizer.encode_chat([{"role": "user", "content": wording}], add_generation_prompt=True)[0]
        return [self.tokenizer.eos_id, *self.tokenizer.encode(wording)]


def _chats(model: LanguageModel | Elsewhere, tokenizer: Tokenizer) -> bool:
    """Whether a model was taught conversations."""
    if isinstance(model, EncoderDecoderModel):
        return model.config.prompts == "chat"
    return model.origin is not None and read_manners(model.origin, tokenizer).chats


def _with_headings(hit: Hit) -> str:
    above = " > ".join(hit.passage.headings)
    return f"({above})\n{hit.text}" if above else hit.text


def _wording(query: str, texts: Sequence[str], chat: bool) -> str:
    passages = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1))
    if chat:
        return f"{_INSTRUCTION}\n\n{passages}\n\n{query}"
    return f"{passages}\n\nQuestion: {query}\nAnswer:"


def _distinct(hits: Sequence[Hit]) -> list[Hit]:
    """Drop passages that say again what a better one says: the same words, or mostly the same span."""
    kept: list[Hit] = []
    for hit in hits:
        words = hit.text.split()
        if not any(words == other.text.split() or _overlap(hit, other) > 0.5 for other in kept):
            kept.append(hit)
    return kept


def _overlap(hit: Hit, other: Hit) -> float:
    """Return which share of the shorter span the two have in common, within one document."""
    one, two = hit.passage, other.passage
    if not one.source or (one.source, one.name) != (two.source, two.name):
        return 0.0
    common = min(one.end, two.end) - max(one.start, two.start)
    return max(common, 0) / max(1, min(one.end - one.start, two.end - two.start))
