"""Data-quality checks that need a tokenizer: what the loss will see of every document, and what is lost."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.files import read_json
from lifelong.text.document import ROLES, Document
from lifelong.text.validation.checker import percentiles, rounded
from lifelong.text.validation.report import Findings
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer

# A tokenizer trained on text of a kind spells 0 to 2% of it in fragments of characters; on a script it never saw, most.
_MOST_FRAGMENTS = 0.1
_FEWEST_TOKENS = 50


class TokenChecks:
    """Encodes documents in batches and looks at what came out.

    Args:
        tokenizer: encodes them.
        max_length: tokens of a row; conversations are cut there. None: nothing is cut.

    Attributes:
        batch: characters that are encoded at once.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int | None = None) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.batch = 1_000_000
        self._texts: list[tuple[Document, str]] = []
        self._chats: list[tuple[Document, str]] = []
        self._waiting = 0
        self._lengths: Counter[int] = Counter()
        self._count: Counter[str] = Counter()

    def see(self, document: Document, where: str, findings: Findings) -> None:
        """Take a document; it is encoded when enough others wait."""
        (self._chats if document.messages else self._texts).append((document, where))
        self._waiting += len(document.text)
        if self._waiting >= self.batch:
            self._encode(findings)

    def finish(self, findings: Findings) -> dict[str, Any]:
        """Encode what waits, report what concerns all documents, and return the facts."""
        self._encode(findings)
        count = self._count
        tokens = count["tokens"]
        facts: dict[str, Any] = {
            "tokens": tokens,
            "bytes_per_token": round(count["bytes"] / tokens, 3) if tokens else None,
            "tokens_per_document": percentiles(self._lengths),
            "fragment_rate": round(count["fragments"] / tokens, 5) if tokens else None,
        }
        if count["chats"]:
            facts["trained_tokens"] = count["trained"] + tokens - count["chat_tokens"]
            facts["trained_share_of_conversations"] = round(count["trained"] / max(1, count["chat_tokens"]), 4)
        if self.max_length is not None:
            facts["max_length"] = self.max_length
            if count["chats"]:
                facts["over_long"] = {
                    "conversations": count["over_long"],
                    "tokens_lost": count["lost"],
                    "share_of_tokens_lost": round(count["lost"] / max(1, count["chat_tokens"]), 4),
                }
        return facts

    @cached_property
    def _fragments(self) -> npt.NDArray[np.bool_]:
        """Whether each token, alone, is no whole character: (vocabulary,)."""
        decode = self.tokenizer.decode
        return np.array(["\ufffd" in decode([token]) for token in range(self.tokenizer.vocab_size)], dtype=bool)

    def _encode(self, findings: Findings) -> None:
        texts, chats = self._texts, self._chats
        self._texts, self._chats, self._waiting = [], [], 0
        flat, lengths = self.tokenizer.encode_flat([document.text for document, _ in texts])
        ends = np.cumsum(lengths)
        for (document, where), length, end in zip(texts, lengths, ends, strict=True):
            self._measure(document, where, flat[end - length : end], findings)
        encoded = self.tokenizer.encode_chat_batch([document.messages or () for document, _ in chats])
        for (document, where), (ids, trained) in zip(chats, encoded, strict=True):
            self._measure(document, where, np.array(ids, dtype=np.uint32), findings)
            self._check_chat(where, ids, trained, findings)

    def _measure(self, document: Document, where: str, ids: npt.NDArray[np.uint32], findings: Findings) -> None:
        fragments = int(self._fragments[ids].sum())
        self._count["tokens"] += len(ids)
        self._count["bytes"] += document.bytes
        self._count["fragments"] += fragments
        self._lengths[rounded(len(ids))] += 1
        if len(ids) >= _FEWEST_TOKENS and fragments > _MOST_FRAGMENTS * len(ids):
            share = f"{fragments / len(ids):.0%} of {len(ids):,} tokens are fragments of characters"
            findings.add("byte-fallback", where, share)

    def _check_chat(self, where: str, ids: list[int], trained: list[bool], findings: Findings) -> None:
        count = self._count
        count["chats"] += 1
        count["chat_tokens"] += len(ids)
        count["trained"] += sum(trained)
        if self.max_length is None or len(ids) <= self.max_length:
            return
        lost = len(ids) - self.max_length
        if any(trained) and not any(trained[: self.max_length]):
            first = trained.index(True)
            count["lost"] += len(ids)
            findings.add("all-truncated", where, f"{len(ids):,} tokens, the first answer begins at token {first:,}")
            return
        count["over_long"] += 1
        count["lost"] += lost
        findings.add("over-long", where, f"{len(ids):,} tokens, {lost:,} are cut off ({lost / len(ids):.0%})")


def check_template(path: str | Path, tokenizer: Tokenizer, findings: Findings) -> None:
    """Report turn tokens that the chat template of a tokenizer directory never writes; one without is passed over.

    The template is the one that other programs will use: without a turn token in it, they would speak to the model in
    another form than the one it is trained in.
    """
    template, where = _template(Path(path))
    if template is None:
        return
    try:
        written = _render(template)
    except Exception as error:  # a template is a program: it may raise anything
        findings.add("turn-token-missing", where, f"the chat template cannot be run: {error}")
        return
    for token in tokenizer.special.spellings[1:]:
        if token not in written:
            findings.add("turn-token-missing", where, f"{token} is never written", kind=token)


def _template(path: Path) -> tuple[str | None, str]:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8"), str(file)
    file = path / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    template = config.get("chat_template") if isinstance(config, dict) else None
    return template if isinstance(template, str) else None, str(file)


def _render(template: str) -> str:
    from lifelong.tokens.templates import render

    messages = [{"role": role, "content": "text"} for role in ROLES]
    return render(template, messages=messages, add_generation_prompt=False)


def longest_row(path: str | Path) -> int | None:
    """Return the positions of the model that a directory holds beside its tokenizer; None where there is no model."""
    file = Path(path) / "config.json"
    config = read_json(file) if file.is_file() else {}
    named = ("max_position_embeddings", "n_positions", "max_seq_len")  # GPT-2's and MPT's files have names of their own
    length = next((config[key] for key in named if key in config), None) if isinstance(config, dict) else None
    return length if isinstance(length, int) else None


def load_for_checks(path: str | Path, findings: Findings) -> Tokenizer | None:
    """Return the tokenizer of a directory; where it lacks a turn token that is a finding, and there is none.

    Raises:
        LifelongError: there is no tokenizer, or it cannot be read.
    """
    try:
        tokenizer = load_tokenizer(path)
    except LifelongError as error:
        if "lacks the special tokens" not in error.what:
            raise
        findings.add("turn-token-missing", error.where or str(path), error.what)
        return None
    check_template(path, tokenizer, findings)
    return tokenizer
