"""Answers as OpenAI's clients read them."""

from __future__ import annotations

import base64
import struct
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from lifelong.serve.jobs import Piece, Token
from lifelong.tokens.base import Tokenizer

Json = dict[str, Any]
_BROKEN = "\ufffd"


class Reply:
    """The frame of one answer, whole or in chunks: its number, time and model."""

    def __init__(self, model: str, tokenizer: Tokenizer, *, chat: bool) -> None:
        self.chat, self._tokenizer = chat, tokenizer
        self._frame = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, choices: list[Json], usage: Mapping[str, int], **own: Any) -> Json:
        """Return an answer at once; ``own`` is what only this server says."""
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._frame, "object": kind, "choices": choices, "usage": usage, **_own(own)}

    def chunk(self, choices: list[Json], usage: Mapping[str, int] | None = None, **own: Any) -> Json:
        """Return a part of a streamed answer."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        counted = {} if usage is None else {"usage": usage}
        return {**self._frame, "object": kind, "choices": choices, **counted, **_own(own)}

    def choice(self, index: int, piece: Piece, logprobs: Json | None) -> Json:
        """Return one whole text."""
        said = {"message": {"role": "assistant", "content": piece.text}} if self.chat else {"text": piece.text}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": piece.finish}

    def delta(self, index: int, piece: Piece, logprobs: Json | None, *, first: bool = False) -> Json:
        """Return what is new of a text."""
        if not self.chat:
            return self.choice(index, piece, logprobs)
        delta: dict[str, str] = {"role": "assistant"} if first else {}
        if piece.text or first:
            delta["content"] = piece.text
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": piece.finish}

    def logprobs(self, tokens: Sequence[Token], offset: int = 0) -> Json:
        """Return log-probabilities in the form of a chat's answer, or of a completion's.

        ``offset`` is where the first token begins in the text, in characters.
        """
        if self.chat:
            return {"content": [self._entry(token) for token in tokens]}
        offsets, spelled = [], []
        for token in tokens:
            spelled.append(self._spell(token.number))
            offsets.append(offset)
            offset += len(spelled[-1])
        return {
            "tokens": spelled,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens] if any(token.top for token in tokens) else None,
            "text_offset": offsets,
        }

    def _top(self, token: Token) -> dict[str, float] | None:
        """Return the likeliest tokens with the one that stands there; of several with one spelling the likeliest."""
        if token.logprob is None:
            return None
        found: dict[str, float] = {}
        for number, logprob in (*token.top, (token.number, token.logprob)):
            word = self._spell(number)
            found[word] = max(logprob, found.get(word, logprob))
        return found

    def _entry(self, token: Token) -> Json:
        top = [self._one(number, logprob) for number, logprob in token.top]
        return {**self._one(token.number, token.logprob), "top_logprobs": top}

    def _one(self, number: int, logprob: float | None) -> Json:
        word = self._spell(number)
        # A token that ends inside a character has no text of its own; its bytes are not guessed.
        data = None if _BROKEN in word else list(word.encode("utf-8"))
        return {"token": word, "logprob": logprob, "bytes": data}

    def _spell(self, number: int) -> str:
        return self._tokenizer.decode([number], skip_special_tokens=False)


def usage(prompt: int, written: int) -> dict[str, int]:
    """Return how many tokens were read and written."""
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def vectors(model: str, found: Sequence[Sequence[float]], tokens: int, encoding: str) -> Json:
    """Return vectors; ``base64`` is of 32-bit floats, the lowest byte first."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(one) if encoding == "base64" else list(one)}
        for index, one in enumerate(found)
    ]
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _packed(numbers: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode("ascii")


def _own(values: Mapping[str, Any]) -> Json:
    kept = {name: value for name, value in values.items() if value}
    return {"lifelong": kept} if kept else {}
