"""What every tokenizer can do, whatever its vocabulary was made by: encode, decode, the chat format, and its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, claim_output, sha256_bytes, write_bytes
from lifelong.tokens.special import MASK, ROLES, SpecialTokens
from lifelong.tokens.typed import cut_apart, is_unicode
from lifelong.tokens.words import BYTE_LEVEL, Flat, WordCache, byte_names, word_pattern

KIND = "tokenizer"
HALF = "the text holds half of a surrogate pair, which is not Unicode text"
JSON, CONFIG = "tokenizer.json", "tokenizer_config.json"


class VocabularyTooLarge(LifelongError):
    """The text does not support as many tokens as were asked for; ``supported`` says how many it does."""

    def __init__(self, wanted: int, supported: int) -> None:
        self.supported = supported
        super().__init__(
            f"the text supports a vocabulary of {supported} tokens at most, {wanted} were asked for",
            fix=f"Pass --vocab-size {supported} or less, or give more text.",
        )


class Tokenizer:
    """A tokenizer whose special tokens cannot be typed: text never becomes a special id, whatever it says.

    `load_tokenizer` reads any; `BPETokenizer` and `SentencePieceTokenizer` are trained from text. ``tokenizer.json``
    is what holds the ids: the same file gives the same ids here, in transformers and in ``tokenizers``.
    """

    special = SpecialTokens()
    _json: bytes | None = None
    _ready: Library | None = None
    _size = 0
    _openings: Mapping[str, list[int]] = {}
    _closing: Sequence[int] = ()
    _typed: tuple[str, ...] = ()  # special tokens that the vocabulary's own model would make of their spelling

    def adopt(self, data: bytes, where: str) -> None:
        """Take over the bytes of a ``tokenizer.json``.

        Raises:
            LifelongError: they are no ``tokenizer.json``, or the special tokens are missing.
        """
        try:
            library = Library.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise LifelongError(f"not a tokenizer.json: {error}", where=where) from None
        if missing := [token for token in self.special.spellings if library.token_to_id(token) is None]:
            raise LifelongError(
                f"the tokenizer lacks the special tokens {', '.join(missing)}",
                where=where,
                fix="`lifelong tokenizer import PATH --out DIR` adds them.",
            )
        library.encode_special_tokens = True  # special tokens in a text are text
        library.no_padding()
        library.no_truncation()
        self._json, self._ready = data, library
        # The rows that embeddings need: a vocabulary made elsewhere may have holes.
        self._size = 1 + max(library.get_vocab(with_added_tokens=True).values())
        self.__dict__.pop("_words", None)
        self.__dict__.pop("marks", None)
        spelled = self._encode(list(self.special.spellings))
        self._typed = tuple(
            token
            for token, ids in zip(self.special.spellings, spelled, strict=True)
            if library.token_to_id(token) in ids
        )
        after = self._encode([*map(self.special.after_opening, ROLES), self.special.after_turn])
        self._openings = {
            role: [self._id(self.special.role(role)), *ids] for role, ids in zip(ROLES, after, strict=False)
        }
        self._closing = [self.end_of_turn_id, *after[-1]]

    @property
    def library(self) -> Library:
        """The ``tokenizers`` object that does the work."""
        if self._ready is None:
            raise _untrained()
        return self._ready

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; special tokens written in it come out as ordinary text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts, encoded in parallel.

        Raises:
            LifelongError: a text holds half of a surrogate pair, so it is not Unicode text.
        """
        texts = list(texts)
        if not self._typed:
            return self._encode(texts)
        # Rare: an imported vocabulary whose own model spells a special token. The text is cut within such spellings.
        cut = [cut_apart(text, self._typed) for text in texts]
        encoded = iter(self._encode([part for parts in cut for part in parts]))
        return [[token for _ in parts for token in next(encoded)] for parts in cut]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        try:
            if len(texts) == 1:  # without the threads of a batch, which may have to wait for a core
                return [self.library.encode(texts[0], add_special_tokens=False).ids]
            encodings = self.library.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:  # all the library says of a lone surrogate
            if all(is_unicode(text) for text in texts):
                raise
            raise LifelongError(HALF) from None
        return [encoding.ids for encoding in encodings]

    def encode_marked(self, text: str) -> list[int]:
        """Return the ids of a text in which special tokens are meant as such: for looking at, never for user's text."""
        parts = re.split("(" + "|".join(map(re.escape, self.special.spellings)) + ")", text)
        encoded = self.encode_batch(parts)
        return [
            token
            for part, ids in zip(parts, encoded, strict=True)
            for token in ([self._id(part)] if part in self.special.spellings else ids)
        ]

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Return the ids of all texts one after another, (tokens,) uint32, and the tokens of each, (texts,) int64.

        The ids are those of `encode_batch`; this is the fastest way to encode much text on one core.

        Raises:
            LifelongError: a text holds half of a surrogate pair.
        """
        if self._words is not None:
            return self._words.encode_flat(texts)
        lists = self.encode_batch(texts)
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        ids = np.fromiter((token for ids in lists for token in ids), dtype=np.uint32, count=int(lengths.sum()))
        return ids, lengths

    @cached_property
    def _words(self) -> WordCache | None:
        pattern = None if self._typed else word_pattern(self.data)
        if pattern is None:
            return None
        return WordCache(pattern, self._encode, self._encode_words if pattern in BYTE_LEVEL else None)

    def _encode_words(self, words: list[str]) -> list[list[int]]:
        """Encode words that the pattern cut: only merging is left to do, which is 2.4 times as fast."""
        tokenize = self.library.model.tokenize
        try:
            named = [word.encode("utf-8").decode("latin-1").translate(byte_names()) for word in words]
        except UnicodeEncodeError:
            raise LifelongError(HALF) from None
        return [[token.id for token in tokenize(word)] for word in named]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids; bytes that are not UTF-8 come out as U+FFFD."""
        text: str = self.library.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def encode_chat(
        self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Return the ids of a conversation, and which of them are trained on.

        Trained on are the contents of assistant messages and the end of turn after each. With
        ``add_generation_prompt`` the ids end where the assistant begins to speak.

        Raises:
            LifelongError: a role is unknown.
        """
        ids, trained = self.encode_chat_batch([messages])[0]
        if add_generation_prompt:
            opening = self.opening_ids("assistant")
            ids += opening
            trained += [False] * len(opening)
        return ids, trained

    def encode_chat_batch(self, chats: Iterable[Sequence[dict[str, str]]]) -> list[tuple[list[int], list[bool]]]:
        """Return what `encode_chat` gives for each conversation, encoded in parallel."""
        chats = list(chats)
        contents = iter(self.encode_batch([message["content"] for messages in chats for message in messages]))
        encoded = []
        for messages in chats:
            ids: list[int] = []
            trained: list[bool] = []
            for message in messages:
                content = next(contents)
                opening = self.opening_ids(message["role"])
                ids += [*opening, *content, *self.closing_ids]
                trained += [False] * len(opening) + [message["role"] == "assistant"] * (len(content) + 1)
                trained += [False] * (len(self.closing_ids) - 1)
            encoded.append((ids, trained))
        return encoded

    def _id(self, token: str) -> int:
        number: int | None = self.library.token_to_id(token)
        assert number is not None  # checked when the tokenizer was adopted
        return number

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, special tokens included."""
        if self._ready is None:
            raise _untrained()
        return self._size

    @property
    def eos_id(self) -> int:
        """Id of the token that stands between documents."""
        return self._id(self.special.end_of_text)

    @property
    def pad_id(self) -> int:
        """Id that fills rows up: the end of text, masked wherever it fills."""
        return self.eos_id

    @property
    def end_of_turn_id(self) -> int:
        """Id of the token that closes every message."""
        return self._id(self.special.end_of_turn)

    def role_id(self, role: str) -> int:
        """Return the id of the token that opens a message of a role; raises LifelongError for a role there is not."""
        return self._id(self.special.role(role))

    def opening_ids(self, role: str) -> list[int]:
        """Return the ids before a message of a role, which `role_id` begins; raises LifelongError as that does."""
        return self._openings.get(role) or [self.role_id(role)]

    @property
    def closing_ids(self) -> Sequence[int]:
        """Ids after every message, which `end_of_turn_id` begins."""
        return self._closing

    @property
    def role_token_ids(self) -> set[int]:
        """Ids of the tokens that open a message: system, user, assistant."""
        return {self.role_id(role) for role in ROLES}

    @property
    def special_ids(self) -> set[int]:
        """Ids of all special tokens."""
        return {self._id(token) for token in self.special.spellings}

    @cached_property
    def marks(self) -> frozenset[int]:
        """Ids of all special tokens: the five, and any others of a vocabulary made elsewhere."""
        added: dict[int, AddedToken] = self.library.get_added_tokens_decoder()
        return frozenset(self.special_ids | {number for number, token in added.items() if token.special})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ``tokenizer.json``: equal where, and only where, ids mean the same."""
        return sha256_bytes(self.data)

    @property
    def data(self) -> bytes:
        """The bytes of ``tokenizer.json``."""
        if self._json is None:
            raise _untrained()
        return self._json

    def save(self, path: str | Path) -> None:
        """Write a tokenizer directory, or only its ``tokenizer.json`` where ``path`` ends in ``.json``.

        The directory also loads with transformers' ``AutoTokenizer``.

        Raises:
            LifelongError: the directory exists and is not a tokenizer of ours.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_bytes(path, self.data)
            return
        claim_output(path, KIND)
        with atomic_directory(path, KIND, fingerprint=self.fingerprint, vocab_size=self.vocab_size) as folder:
            self.write_files(folder)

    def write_files(self, folder: Path, *, mask_id: int | None = None, behind: Sequence[str] = ()) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` into a directory that holds other files too.

        ``mask_id`` is the id of a model's mask token: transformers adds one that the vocabulary lacks behind it, and
        so it does with the special tokens ``behind``, in their order.
        """
        write_bytes(folder / JSON, self.data)
        own: dict[str, Any] = {} if mask_id is None else {"mask_token": self.library.id_to_token(mask_id) or MASK}
        if behind:
            own["additional_special_tokens"] = list(behind)
        config = json.dumps({**self.config(), **own}, indent=2, ensure_ascii=False) + "\n"
        write_bytes(folder / CONFIG, config.encode("utf-8"))

    def config(self) -> dict[str, Any]:
        """Return what ``tokenizer_config.json`` holds: what transformers must know, and spellings of our own."""
        end = self.special.end_of_text
        own = {} if self.special == SpecialTokens() else {"lifelong_special_tokens": asdict(self.special)}
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": end,
            "eos_token": end,
            "pad_token": end,
            "clean_up_tokenization_spaces": False,
            "chat_template": self.special.chat_template,
            **own,
        }


def _untrained() -> LifelongError:
    return LifelongError(
        "the tokenizer is not trained", fix="Call train(texts) first, or read one with load_tokenizer(path)."
    )
