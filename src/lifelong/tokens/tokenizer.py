"""Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909, on bytes as in GPT-2), and the chat format.

A conversation is ``<|user|>question<|end|><|assistant|>answer<|end|>``, with nothing between the turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, check_manifest, claim_output, directory_kind, sha256_bytes, write_bytes

KIND = "tokenizer"
END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (END_OF_TEXT, *ROLE_TOKENS.values(), END_OF_TURN)
SMALLEST = 256 + len(SPECIAL_TOKENS)

# Qwen2's pattern: words with the sign before them, single digits, line ends kept together; llama.cpp knows it by name.
# Measured with 4096 tokens learned from Python's documentation: 7% fewer tokens for held-out prose, and 1.4% fewer for
# code, than GPT-2's pattern with single digits.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Gives exactly the ids of `encode_chat`.
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_NEED_TRAINING = "Call train(texts) first, or BPETokenizer.load(path)."


class BPETokenizer:
    """Byte-level BPE whose special tokens cannot be typed: text never becomes a special id, whatever it says.

    Every string survives the round trip ``decode(encode(text)) == text``; digits are split singly.

    Args:
        vocab_size: tokens in all, the 256 bytes and 5 special tokens included.
        min_frequency: how often a pair must occur to be merged.

    Raises:
        LifelongError: ``vocab_size`` is below 261.
    """

    def __init__(self, vocab_size: int = 8000, min_frequency: int = 2) -> None:
        if vocab_size < SMALLEST:
            raise LifelongError(
                f"a vocabulary of {vocab_size} is too small for 256 bytes and {len(SPECIAL_TOKENS)} special tokens",
                fix=f"Pass --vocab-size {SMALLEST} or more.",
            )
        self._wanted, self._min_frequency = vocab_size, min_frequency
        self._json: bytes | None = None
        self._ready: Tokenizer | None = None

    def train(self, texts: Iterable[str]) -> Self:
        """Learn the merges from texts, and return the tokenizer itself. Equal texts give equal bytes.

        Raises:
            LifelongError: there is no text, or it does not support a vocabulary of the wanted size.
        """
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self._wanted,
            min_frequency=self._min_frequency,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        reached = tokenizer.get_vocab_size()
        if reached == SMALLEST < self._wanted:
            raise LifelongError(
                "there is too little text to learn a vocabulary from: no pair of characters occurs "
                f"{self._min_frequency} times",
                fix=f"Give more text, or pass --vocab-size {SMALLEST} for bytes alone.",
            )
        if reached < self._wanted:
            raise LifelongError(
                f"the text supports a vocabulary of {reached} tokens at most, {self._wanted} were asked for",
                fix=f"Pass --vocab-size {reached} or less, or give more text.",
            )
        self._adopt(tokenizer.to_str(pretty=True).encode("utf-8"), "the trained tokenizer")
        return self

    def _adopt(self, data: bytes, where: str) -> None:
        try:
            tokenizer = Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise LifelongError(f"not a tokenizer.json: {error}", where=where) from None
        if missing := [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]:
            raise LifelongError(
                f"the tokenizer lacks the special tokens {', '.join(missing)}",
                where=where,
                fix="Use one made by `lifelong tokenizer train`.",
            )
        tokenizer.encode_special_tokens = True  # special tokens in a text are text
        self._json, self._ready = data, tokenizer

    @property
    def _tokenizer(self) -> Tokenizer:
        if self._ready is None:
            raise LifelongError("the tokenizer is not trained", fix=_NEED_TRAINING)
        return self._ready

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; special tokens written in it come out as ordinary text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts, encoded in parallel.

        Raises:
            LifelongError: a text holds half of a surrogate pair, so it is not Unicode text.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:  # all the library says of a lone surrogate
            if all(_is_unicode(text) for text in texts):
                raise
            raise LifelongError("the text holds half of a surrogate pair, which is not Unicode text") from None
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids; bytes that are not UTF-8 come out as U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
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
            ids.append(self._role_id("assistant"))
            trained.append(False)
        return ids, trained

    def encode_chat_batch(self, chats: Sequence[Sequence[dict[str, str]]]) -> list[tuple[list[int], list[bool]]]:
        """Return what `encode_chat` gives for each conversation, encoded in parallel."""
        contents = iter(self.encode_batch([message["content"] for messages in chats for message in messages]))
        encoded = []
        for messages in chats:
            ids: list[int] = []
            trained: list[bool] = []
            for message in messages:
                content = next(contents)
                ids += [self._role_id(message["role"]), *content, self.end_of_turn_id]
                trained += [False] + [message["role"] == "assistant"] * (len(content) + 1)
            encoded.append((ids, trained))
        return encoded

    def _role_id(self, role: str) -> int:
        if role not in ROLE_TOKENS:
            raise LifelongError(f"unknown role '{role}'", fix=f"Roles: {', '.join(ROLE_TOKENS)}.")
        return self._id(ROLE_TOKENS[role])

    def _id(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        assert number is not None  # checked when the tokenizer was adopted
        return number

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, special tokens included."""
        size: int = self._tokenizer.get_vocab_size()
        return size

    @property
    def eos_id(self) -> int:
        """Id of ``<|endoftext|>``, which stands between documents."""
        return self._id(END_OF_TEXT)

    @property
    def pad_id(self) -> int:
        """Id that fills rows up: the end of text, masked wherever it fills."""
        return self.eos_id

    @property
    def end_of_turn_id(self) -> int:
        """Id of ``<|end|>``, which closes every message."""
        return self._id(END_OF_TURN)

    @property
    def role_token_ids(self) -> set[int]:
        """Ids of the tokens that open a message: system, user, assistant."""
        return {self._id(token) for token in ROLE_TOKENS.values()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ``tokenizer.json``: equal where, and only where, ids mean the same."""
        return sha256_bytes(self._bytes)

    @property
    def _bytes(self) -> bytes:
        if self._json is None:
            raise LifelongError("the tokenizer is not trained", fix=_NEED_TRAINING)
        return self._json

    def save(self, path: str | Path) -> None:
        """Write a tokenizer directory, or only its ``tokenizer.json`` where ``path`` ends in ``.json``.

        The directory also loads with transformers' ``AutoTokenizer``.

        Raises:
            LifelongError: the directory exists and is not a tokenizer of ours.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_bytes(path, self._bytes)
            return
        claim_output(path, KIND)
        with atomic_directory(path, KIND, fingerprint=self.fingerprint, vocab_size=self.vocab_size) as folder:
            self.write_files(folder)

    def write_files(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` into a directory that holds other files too."""
        write_bytes(folder / "tokenizer.json", self._bytes)
        config = json.dumps(self._config(), indent=2, ensure_ascii=False) + "\n"
        write_bytes(folder / "tokenizer_config.json", config.encode("utf-8"))

    def _config(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer directory, a model directory, or a ``tokenizer.json``.

        Raises:
            LifelongError: the file is missing, damaged, or lacks the special tokens of the chat format.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise LifelongError(
                "no tokenizer here" if path.is_dir() else "file not found",
                where=str(file),
                fix="Train one with `lifelong tokenizer train SOURCE --out DIR`.",
            )
        if path.is_dir() and directory_kind(path) == KIND and (problem := check_manifest(path)):
            raise LifelongError(problem, where=str(path), fix="Train or copy the tokenizer again.")
        tokenizer = cls()
        tokenizer._adopt(file.read_bytes(), str(file))
        tokenizer._wanted = tokenizer.vocab_size
        return tokenizer


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
