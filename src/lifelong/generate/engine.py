"""Writing text with a model, many texts at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifelong.errors import LifelongError
from lifelong.generate.elsewhere import Elsewhere
from lifelong.generate.sampling import Sampling
from lifelong.generate.slots import Engine, Finish, Slots
from lifelong.generate.stream import TextStream
from lifelong.model.seq2seq import EncoderDecoderModel

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer

ROWS = 16  # texts that are written side by side


def note_to_stderr(message: str) -> None:
    """Print a remark beside the text, not into it."""
    sys.stderr.write(f"note: {message}\n")


@dataclass
class Written:
    """A text that a model wrote.

    Attributes:
        text: without the prompt, and without what ended it.
        tokens: its tokens, without one that ended it; they may spell a string that ended it.
        finish: why it ends: ``"stop"`` or ``"length"``; see `lifelong.generate.slots.Step`.
        logprobs: the log-probability of each token, if asked for.
        top: the likeliest tokens at each place with theirs, if asked for.
        experts: of a model with several, the weight of each with which the last token was chosen.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish: Finish = "length"
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    experts: dict[str, float] = field(default_factory=dict)


def generate(
    model: LanguageModel | Elsewhere,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    *,
    max_tokens: int = 50,
    temperature: float = 0.8,
    top_p: float = 0.9,
    top_k: int = 50,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: Sequence[str] = (),
    stop_ids: Collection[int] = (),
    banned_ids: Collection[int] = (),
    num_samples: int = 1,
    fixed_share: float = 0.0,
    top_experts: int | None = None,
    on_text: Callable[[str], None] | None = None,
    on_experts: Callable[[dict[str, float]], None] | None = None,
    on_note: Callable[[str], None] = note_to_stderr,
) -> list[str]:
    """Return ``num_samples`` continuations of a prompt, without the prompt; see `write`.

    Args:
        model: the model; its training mode is restored afterwards.
        tokenizer: the one it was trained with.
        prompt: text, or token ids.
        max_tokens: the most tokens to write.
        temperature: see `lifelong.generate.sampling.Sampling`, also for the next four.
        top_p: the probability that the tokens drawn from hold together; 1 or 0 = no limit.
        top_k: how many of the likeliest tokens are drawn from; 0 = no limit.
        min_p: tokens below this share of the likeliest one's probability are not drawn; 0 = no limit.
        repetition_penalty: makes tokens that were read or written before less likely; 1: off.
        seed: for the draws; without one every call writes something else.
        stop: strings that end a sample; see `TextStream`.
        stop_ids: tokens that end a sample, beside the end of the text.
        banned_ids: tokens never written.
        num_samples: continuations to write side by side.
        fixed_share: of a model with several experts; see :class:`lifelong.generate.reading.Reader`, also for
            ``top_experts``.
        top_experts: how many of them go on after the prompt; None: all.
        on_text: called with pieces of the text as they are written, never with a part of a character; for one sample.
        on_experts: called for every sample, in order, with the weights (expert → probability) with which its last token
            was chosen; of a model with several experts.
        on_note: called with remarks for the user; prints to standard error unless given.

    Raises:
        LifelongError: the model is bidirectional, a setting is out of range, or ``max_tokens`` leaves no room for a
            prompt.
    """
    [found] = write(
        model,
        tokenizer,
        [prompt],
        Sampling(temperature, top_p, top_k, min_p, repetition_penalty, frozenset(banned_ids)),
        max_tokens=max_tokens,
        seed=seed,
        stop=stop,
        stop_ids=stop_ids,
        num_samples=num_samples,
        fixed_share=fixed_share,
        top_experts=top_experts,
        on_text=on_text,
        on_note=on_note,
    )
    if on_experts is not None and model.experts is not None:
        for one in found:
            on_experts(one.experts)
    return [one.text for one in found]


def write(
    model: LanguageModel | Elsewhere,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    sampling: Sampling | None = None,
    *,
    max_tokens: int = 50,
    seed: int | None = None,
    stop: Sequence[str] = (),
    stop_ids: Collection[int] = (),
    num_samples: int = 1,
    logprobs: int | None = None,
    fixed_share: float = 0.0,
    top_experts: int | None = None,
    on_text: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] = note_to_stderr,
) -> list[list[Written]]:
    """Return ``num_samples`` continuations of every prompt; up to 16 are written side by side.

    A text prompt is read as the beginning of a document: the end-of-text token stands before it, as in training. Token
    ids are taken as they are. An empty prompt is the beginning of a document of which nothing is known. A text ends at
    the end-of-text token, at one of ``stop_ids``, before one of the strings ``stop``, or after ``max_tokens``. The same
    seed gives the same text for the same prompt, whatever is written beside it; see `Slots`.

    An encoder-decoder model reads the prompt as its training would have it (`EncoderDecoderConfig.prompts`), and writes
    a text of its own: an answer, or what fills the gap behind the prompt.

    A prompt longer than the context less ``max_tokens`` is cut at the front, and ``on_note`` says so.

    Args:
        model: the model; its training mode is restored afterwards. One that is computed elsewhere writes text by text.
        tokenizer: the one it was trained with.
        prompts: texts, or token ids.
        sampling: how tokens are chosen; as `Sampling` has it by default.
        max_tokens: the most tokens of each text.
        seed: see `generate`, also for the rest.
        stop: strings that end a text.
        stop_ids: tokens that end a text.
        num_samples: continuations of each prompt.
        logprobs: how many of the likeliest tokens to name at every place; None: no log-probabilities at all.
        fixed_share: of a model with several experts.
        top_experts: of a model with several experts.
        on_text: called with pieces of the text; where one is written.
        on_note: called with remarks for the user.

    Raises:
        LifelongError: as `generate`.
    """
    if not isinstance(model, EncoderDecoderModel):
        model.config.require_causal("write text")
    if num_samples < 1 or max_tokens < 0:
        raise LifelongError(f"cannot write {num_samples} samples of {max_tokens} tokens")
    total = len(prompts) * num_samples
    if on_text is not None and total != 1:
        raise ValueError("on_text follows one sample; there must be one prompt, and num_samples must be 1")
    ids = [_read(model, tokenizer, prompt, max_tokens, on_note) for prompt in prompts]
    jobs = iter([(number, sample) for number in range(len(prompts)) for sample in range(num_samples)])
    found = [[Written() for _ in range(num_samples)] for _ in prompts]
    streams: dict[int, tuple[Written, TextStream]] = {}  # of those that are being written, by their handles
    ends = {tokenizer.eos_id, *stop_ids}
    if isinstance(model, EncoderDecoderModel):
        ends.add(tokenizer.end_of_turn_id)
    TextStream(tokenizer, None, stop)  # to refuse what cannot be a stop before the work begins
    rows, length = max(1, min(total, ROWS)), max(map(len, ids), default=0) + max_tokens
    chosen = sampling or Sampling()

    def opened() -> AbstractContextManager[Engine]:
        if isinstance(model, Elsewhere):
            return model.open()
        return Slots(
            model, rows, length, vocab_size=tokenizer.vocab_size, fixed_share=fixed_share, top_experts=top_experts
        )

    def join(slots: Engine, waiting: Iterator[tuple[int, int]]) -> None:
        for number, sample in waiting:
            handle = slots.join(
                ids[number],
                chosen,
                max_tokens=max_tokens,
                seed=seed,
                sample=sample,
                stop_ids=ends,
                logprobs=logprobs,
            )
            streams[handle] = found[number][sample], TextStream(tokenizer, on_text, stop)
            if not slots.free:
                return

    more = max_tokens > 0 and total > 0
    while more:
        with opened() as slots:
            join(slots, jobs)
            more = bool(streams)
            while streams:
                for step in slots.step():
                    text, stream = streams[step.handle]
                    ended = step.finish == "stop"
                    if not ended:
                        text.tokens.append(step.token)
                        if step.logprob is not None:
                            text.logprobs.append(step.logprob)
                            text.top.append(step.top)
                        ended = stream.add(step.token)
                        if ended and step.finish is None:
                            text.experts = slots.leave(step.handle)
                    if ended or step.finish is not None:
                        text.finish = "stop" if ended else "length"
                        text.experts = step.experts or text.experts
                        text.text = stream.finish()
                        del streams[step.handle]
                if slots.free and top_experts is None:
                    join(slots, jobs)
            more = more and top_experts is not None  # then texts join only before the first step
    return found


def _read(
    model: LanguageModel | Elsewhere,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    max_tokens: int,
    on_note: Callable[[str], None],
) -> list[int]:
    """Return the ids of a prompt, as many as fit."""
    writer = model if isinstance(model, EncoderDecoderModel) else None
    if isinstance(prompt, str):
        ids = writer.prompt_ids(tokenizer, prompt) if writer else [tokenizer.eos_id, *tokenizer.encode(prompt)]
    else:
        ids = list(prompt) or [tokenizer.eos_id]
    context = model.config.max_seq_len
    room = context - (0 if writer else max_tokens)
    if room < 1:
        raise LifelongError(
            f"{max_tokens} tokens do not fit the model's context of {context} with a prompt before them",
            fix=f"Ask for at most {context - 1} (--max-tokens).",
        )
    if len(ids) <= room:
        return ids
    on_note(f"the prompt has {len(ids)} tokens; the first {len(ids) - room} do not fit the context and are not read")
    return ids[-room:]
