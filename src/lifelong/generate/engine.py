"""Writing text with a model, one token a step, with a key-value cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import torch

from lifelong.errors import LifelongError
from lifelong.generate.inference import inference
from lifelong.generate.reading import Reader
from lifelong.generate.sampling import check_sampling, sample_next
from lifelong.generate.stream import TextStream
from lifelong.model.seq2seq import EncoderDecoderModel

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel
    from lifelong.tokens.base import Tokenizer


def note_to_stderr(message: str) -> None:
    """Print a remark beside the text, not into it."""
    sys.stderr.write(f"note: {message}\n")


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | list[int],
    *,
    max_tokens: int = 50,
    temperature: float = 0.8,
    top_p: float = 0.9,
    top_k: int = 50,
    seed: int | None = None,
    stop_ids: Collection[int] = (),
    banned_ids: Collection[int] = (),
    num_samples: int = 1,
    fixed_share: float = 0.0,
    top_experts: int | None = None,
    on_text: Callable[[str], None] | None = None,
    on_experts: Callable[[dict[str, float]], None] | None = None,
    on_note: Callable[[str], None] = note_to_stderr,
) -> list[str]:
    """Return ``num_samples`` continuations of a prompt, without the prompt.

    A text prompt is read as the beginning of a document: the end-of-text token stands before it, as in training. Token
    ids are taken as they are. A sample ends at the end-of-text token, at one of ``stop_ids`` (neither is part of the
    text), or after ``max_tokens``. The same seed gives the same text.

    An encoder-decoder model reads the prompt as its training would have it (`EncoderDecoderConfig.prompts`), and writes
    a text of its own: an answer, or what fills the gap behind the prompt.

    A prompt longer than the context less ``max_tokens`` is cut at the front, and ``on_note`` says so.

    Args:
        model: the model; its training mode is restored afterwards.
        tokenizer: the one it was trained with.
        prompt: text, or token ids.
        max_tokens: the most tokens to write.
        temperature: see :func:`lifelong.generate.sampling.sample_next`, also for ``top_p`` and ``top_k``.
        top_p: the probability that the tokens drawn from hold together; 1 or 0 = no limit.
        top_k: how many of the likeliest tokens are drawn from; 0 = no limit.
        seed: for the draws; without one every call writes something else.
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
    writer = model if isinstance(model, EncoderDecoderModel) else None
    if writer is None:
        model.config.require_causal("write text")
    check_sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    if num_samples < 1 or max_tokens < 0:
        raise LifelongError(f"cannot write {num_samples} samples of {max_tokens} tokens")
    if on_text is not None and num_samples != 1:
        raise ValueError("on_text follows one sample; num_samples must be 1")
    if isinstance(prompt, str):
        prompt = writer.prompt_ids(tokenizer, prompt) if writer else [tokenizer.eos_id, *tokenizer.encode(prompt)]
    ids = _fit(model, list(prompt) or [tokenizer.eos_id], 0 if writer else max_tokens, on_note)
    streams = [TextStream(tokenizer, on_text) for _ in range(num_samples)]
    running = list(range(num_samples))  # rows of the batch that have not ended
    ends = {tokenizer.eos_id, *stop_ids, *([tokenizer.end_of_turn_id] if writer else [])}
    generator = torch.Generator().manual_seed(seed) if seed is not None else None
    weights: dict[int, dict[str, float]] = {}
    length = len(ids) + max_tokens
    with (
        inference(model) as device,
        Reader(model, num_samples, length, fixed_share=fixed_share, top_experts=top_experts) as reader,
    ):
        inputs = torch.tensor([ids] * num_samples, device=device)
        for _ in range(max_tokens):
            # Imported models may have rows of padding beyond the vocabulary, which spell nothing.
            logits = reader.read(inputs)[:, : tokenizer.vocab_size]
            chosen = sample_next(
                logits, temperature=temperature, top_k=top_k, top_p=top_p, banned=banned_ids, generator=generator
            )
            tokens = chosen.tolist()
            ended = [row for row in running if tokens[row] in ends]
            weights.update({row: reader.weights(row) for row in ended})
            running = [row for row in running if row not in ended]
            for row in running:
                streams[row].add(tokens[row])
            if not running:
                break
            inputs = chosen.unsqueeze(1)
        weights.update({row: reader.weights(row) for row in running})
    if on_experts is not None and model.experts is not None:
        for _, found in sorted(weights.items()):
            on_experts(found)
    return [stream.finish() for stream in streams]


def _fit(model: LanguageModel, ids: list[int], max_tokens: int, on_note: Callable[[str], None]) -> list[int]:
    context = model.config.max_seq_len
    room = context - max_tokens
    if room < 1:
        raise LifelongError(
            f"{max_tokens} tokens do not fit the model's context of {context} with a prompt before them",
            fix=f"Ask for at most {context - 1} (--max-tokens).",
        )
    if len(ids) <= room:
        return ids
    on_note(f"the prompt has {len(ids)} tokens; the first {len(ids) - room} do not fit the context and are not read")
    return ids[-room:]
