"""From a request to the texts that are to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.generate.sampling import Sampling
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.serve.errors import RequestError
from lifelong.serve.exported import AnyViews, Exported
from lifelong.serve.jobs import Job
from lifelong.serve.requests import ChatRequest, CompletionRequest, EmbeddingRequest, Message, WritingRequest
from lifelong.serve.views import Views
from lifelong.settings.serve import ServeSettings

if TYPE_CHECKING:
    from lifelong.serve.sources import Sources

DEFAULT_TOKENS = 128
_STOPS, _STOP_LENGTH = 16, 256


@dataclass(frozen=True)
class Prompt:
    """What a text goes on from.

    Attributes:
        ids: its tokens.
        text: what it says, to be echoed.
        opened: whether the first token is the one before every document, which is no part of the text.
    """

    ids: list[int]
    text: str = ""
    opened: bool = False


@dataclass
class Asked:
    """What one request asks for.

    Attributes:
        prompts: each of them.
        jobs: of every prompt ``n`` texts, in order.
        sources: passages that stand in the prompt, as JSON holds them.
    """

    prompts: list[Prompt]
    jobs: list[Job]
    sources: list[dict[str, Any]] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.ids) for prompt in self.prompts)


class Asking:
    """Checks requests against the model and the server's limits."""

    def __init__(self, views: AnyViews, settings: ServeSettings, sources: Sources | None) -> None:
        self._views, self._settings, self._sources = views, settings, sources

    def target(self, name: str) -> str:
        """Return the view that a request's model names; raises RequestError where there is none."""
        try:
            return self._views.target(name)
        except LifelongError as error:
            raise RequestError(404, f"{error.what} {error.fix}", code="model_not_found", param="model") from None

    def completion(self, request: CompletionRequest) -> Asked:
        """Return the texts of a completion; raises RequestError or LifelongError where it asks for too much."""
        view = self._writing(request)
        raw = request.prompt
        many: Sequence[Any] = raw if isinstance(raw, list) and raw and not isinstance(raw[0], int) else [raw]
        self._limit(len(many) * request.n, self._settings.max_choices, "n")
        prompts = [self._read(prompt) for prompt in many]
        wanted, logprobs = request.max_tokens, self._told(request.logprobs)
        if request.echo and self._views.seq2seq:
            raise RequestError(400, "this model writes a text of its own, which a prompt is no part of", param="echo")
        if wanted == 0 and (request.stream or not request.echo):
            raise RequestError(400, "0 tokens are something only with `echo`, and no stream", param="max_tokens")
        jobs = [] if wanted == 0 else self._jobs(view, request, prompts, wanted, logprobs, chat=False)
        return Asked(prompts, jobs)

    def chat(self, request: ChatRequest) -> Asked:
        """Return the texts that answer a conversation; raises as `completion`."""
        view = self._writing(request)
        self._limit(request.n, self._settings.max_choices, "n")
        self._limit(len(request.messages), self._settings.max_messages, "messages")
        wanted = request.max_completion_tokens or request.max_tokens
        if wanted == 0:
            raise RequestError(400, "an answer has at least one token", param="max_tokens")
        messages = [{"role": _role(message), "content": message.text} for message in request.messages]
        sources: list[dict[str, Any]] = []
        if request.passages:
            if self._sources is None:
                raise RequestError(400, "this server has no store of passages (--store)", param="passages")
            room = wanted or min(DEFAULT_TOKENS, self._views.context // 2)
            ids, sources = self._sources.prompt(messages, request.passages, room)
        elif self._views.seq2seq:
            ids = self._read(messages[-1]["content"]).ids
        else:
            ids = self._views.tokenizer.encode_chat(messages, add_generation_prompt=True)[0]
        logprobs = self._told(request.top_logprobs if request.logprobs else None)
        prompt = Prompt(ids)
        return Asked([prompt], self._jobs(view, request, [prompt], wanted, logprobs, chat=True), sources)

    def embedding(self, request: EmbeddingRequest) -> tuple[str, list[list[int]]]:
        """Return the view and the texts of which vectors are asked; raises as `completion`."""
        view, views = self.target(request.model), self._views
        if views.writes or not isinstance(views, Views):
            raise RequestError(400, "this model writes text; models that read in both directions give vectors")
        width, longest = views.model.output_weight.shape[1], views.model.config.max_seq_len
        if request.dimensions not in (None, width):
            raise RequestError(400, f"the vectors have {width} numbers", param="dimensions")
        raw = request.input
        many: Sequence[Any] = raw if isinstance(raw, list) and raw and not isinstance(raw[0], int) else [raw]
        self._limit(len(many), self._settings.queue * 16, "input")
        texts = [self._ids(text, "input") for text in many]
        for ids in texts:
            if not ids:
                raise RequestError(400, "an empty text has no vector", param="input")
            if len(ids) > longest:
                raise _too_long(len(ids), 0, longest, "input")
        return view, texts

    def _writing(self, request: WritingRequest) -> str:
        if not self._views.writes:
            raise RequestError(400, "this model reads in both directions and writes nothing; it has /v1/embeddings")
        stops = request.stops
        self._limit(len(stops), _STOPS, "stop")
        self._limit(max(map(len, stops), default=0), _STOP_LENGTH, "stop")
        if not all(stops):
            raise RequestError(400, "an empty text cannot end a text", param="stop")
        return self.target(request.model)

    def _told(self, logprobs: int | None) -> int | None:
        """Return how many likeliest tokens are to be named; raises RequestError where nothing is told of any."""
        if logprobs is not None and isinstance(self._views, Exported):
            raise RequestError(
                400,
                f"an export ({self._views.engine}) tells no log-probabilities; the model directory that it was made of "
                "does, where that is served",
                param="logprobs",
            )
        return logprobs

    def _jobs(
        self,
        view: str,
        request: WritingRequest,
        prompts: list[Prompt],
        wanted: int | None,
        logprobs: int | None,
        *,
        chat: bool,
    ) -> list[Job]:
        settings, tokenizer, seq2seq = self._settings, self._views.tokenizer, self._views.seq2seq
        ends = {tokenizer.eos_id} | ({tokenizer.end_of_turn_id} if chat or seq2seq else set())
        sampling = Sampling(
            settings.temperature if request.temperature is None else request.temperature,
            settings.top_p if request.top_p is None else request.top_p,
            settings.top_k if request.top_k is None else request.top_k,
            request.min_p,
            request.repetition_penalty,
            frozenset(tokenizer.role_token_ids if chat else ()),
        )
        context = self._views.context
        jobs = []
        for prompt in prompts:
            ids = prompt.ids
            used = 0 if seq2seq else len(ids)
            default = settings.max_tokens or min(DEFAULT_TOKENS, context // 2)
            count = min(default, context - used) if wanted is None else wanted
            if count < 1 or used + count > context or len(ids) > context:
                raise _too_long(len(ids), wanted or 1, context, "messages" if chat else "prompt")
            jobs += [
                Job(
                    view,
                    ids,
                    sampling,
                    count,
                    settings.seed if request.seed is None else request.seed,
                    sample,
                    request.stops,
                    frozenset(ends),
                    logprobs,
                    whole=not request.stream,
                )
                for sample in range(request.n)
            ]
        return jobs

    def _read(self, prompt: str | list[int]) -> Prompt:
        """Return a prompt as the model reads it; a text begins a document, as in training."""
        model, tokenizer = self._views.model, self._views.tokenizer
        if isinstance(prompt, list):
            ids = self._ids(prompt, "prompt")
            return Prompt(ids, tokenizer.decode(ids, skip_special_tokens=False)) if ids else self._read("")
        if isinstance(model, EncoderDecoderModel):
            self._check_length(prompt, "prompt")
            return Prompt(model.prompt_ids(tokenizer, prompt), prompt)
        return Prompt([tokenizer.eos_id, *self._ids(prompt, "prompt")], prompt, opened=True)

    def _ids(self, text: str | list[int], param: str) -> list[int]:
        if isinstance(text, str):
            self._check_length(text, param)
            return self._views.tokenizer.encode(text)
        size = self._views.tokenizer.vocab_size
        wrong = next((number for number in text if not 0 <= number < size), None)
        if wrong is not None:
            raise RequestError(400, f"token {wrong} is none of the {size} that there are", param=param)
        return list(text)

    def _check_length(self, text: str, param: str) -> None:
        # No token spells more than some hundred bytes: what is far too long is not encoded first.
        if len(text) > 512 * self._views.context:
            raise RequestError(
                400,
                f"{len(text)} characters are far more than the {self._views.context} tokens that the model reads",
                code="context_length_exceeded",
                param=param,
            )

    @staticmethod
    def _limit(count: int, most: int, param: str) -> None:
        if count > most:
            raise RequestError(400, f"{count} is more than the {most} that this server allows", param=param)


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _too_long(prompt: int, wanted: int, context: int, param: str) -> RequestError:
    asked = f" and {wanted} more" if wanted > 1 else ""
    return RequestError(
        400,
        f"this model reads {context} tokens; the prompt has {prompt}{asked}. Shorten it, or ask for fewer tokens.",
        code="context_length_exceeded",
        param=param,
    )
