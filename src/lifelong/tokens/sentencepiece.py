"""SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226): unigram or BPE pieces with bytes to fall back on."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self

from lifelong.errors import LifelongError
from lifelong.files import read_json, write_bytes
from lifelong.tokens.base import CONFIG, HALF, Tokenizer, VocabularyTooLarge
from lifelong.tokens.special import ROLES, SpecialTokens, known_spellings
from lifelong.tokens.spm import CONTROL, USER_DEFINED, SpmModel, make_control, read_spm, round_scores
from lifelong.tokens.spm_json import to_json
from lifelong.tokens.tokenizer import find_json
from lifelong.tokens.words import WordCache, word_pattern

MODEL = "spm.model"
SPECIAL = SpecialTokens(end_of_text="</s>")
SMALLEST = 256 + 7
_RUNTIME = "lifelong_runtime"
# Where a text is cut for the trainer: at characters that it gives a meaning of its own (it would drop a text that holds
# one), and behind line ends, so that no piece crosses them and words can be encoded one by one.
_CUTS = re.compile("[\0\u2581\u2585]+|(?<=\n)(?!\n)")

_OWN = re.compile("[\u2581<\ud800-\udfff]")
_EXACT = 4000  # characters: so far sums of scores are exact in the library's 32 bits


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece with byte fallback, no normalisation and every space kept: every string survives the round trip.

    Special ids: unk 0, bos 1, eos 2, system 3, user 4, assistant 5, end of turn 6. Beside ``tokenizer.json``, which is
    what runs, the directory holds ``spm.model`` for other tools; the library's ids are the same for all text without
    U+2581, which the library itself turns into a space. A model that was trained elsewhere runs in the library.

    Args:
        vocab_size: pieces in all, the 256 bytes and 7 special ones included.
        model_type: ``unigram`` or ``bpe``.

    Raises:
        LifelongError: ``vocab_size`` is below 264.
    """

    special = SPECIAL

    def __init__(self, vocab_size: int = 16000, model_type: Literal["unigram", "bpe"] = "unigram") -> None:
        if vocab_size <= SMALLEST:
            raise LifelongError(
                f"a vocabulary of {vocab_size} is too small for 256 bytes, 7 special tokens and some characters",
                fix=f"Pass --vocab-size {SMALLEST + 1} or more.",
            )
        self._wanted, self._model_type = vocab_size, model_type
        self._spm: bytes = b""
        self._processor: Any = None  # the library's, for a model that was trained elsewhere
        self._fast: Any = None  # the library's, for single words of a model that was trained here
        self._bos: str | None = "<s>"
        self.notes: list[str] = []  # what was added to or changed in a model that was trained elsewhere

    def train(self, texts: Iterable[str]) -> Self:
        """Learn the pieces from texts, and return the tokenizer itself. Equal texts give equal bytes.

        All texts are in memory while it learns; ``unigram`` takes about 20 bytes for each of theirs.

        Raises:
            LifelongError: there is no text, or it does not support a vocabulary of the wanted size.
        """
        from sentencepiece import SentencePieceTrainer

        out = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=(part for text in texts for part in _CUTS.split(text) if part),
                model_writer=out,
                vocab_size=self._wanted,
                model_type=self._model_type,
                byte_fallback=True,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,  # indentation
                split_digits=True,
                max_sentence_length=2
                ** 30,  # the most there is; a longer one would be dropped: a text is a sentence here
                character_coverage=0.9995,
                unk_id=0,
                bos_id=1,
                eos_id=2,
                pad_id=-1,
                control_symbols=[SPECIAL.role(role) for role in ROLES] + [SPECIAL.end_of_turn],
                num_threads=4,  # fixed: sums of floats depend on it, and equal texts must give equal bytes
                minloglevel=2,
            )
        except RuntimeError as error:
            raise self._explain(str(error)) from None
        self._spm, self._processor, self._fast, self._bos = round_scores(out.getvalue()), None, None, "<s>"
        self.adopt(to_json(read_spm(self._spm, MODEL), (), imported=False, where=MODEL), "the trained tokenizer")
        return self

    @property
    def spm(self) -> bytes:
        """The bytes of ``spm.model``."""
        return self._spm

    def _explain(self, message: str) -> LifelongError:
        if match := re.search(r"value <= (\d+)", message):
            return VocabularyTooLarge(self._wanted, int(match[1]))
        if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
            return LifelongError(
                f"a vocabulary of {self._wanted} cannot hold the characters of the text",
                fix=f"Pass --vocab-size {int(match[1]) + 1} or more.",
            )
        return LifelongError(
            f"there is too little text to learn a vocabulary from ({message.strip()})", fix="Give more text."
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer or model directory with a ``spm.model``, or a ``spm.model`` trained anywhere.

        Special tokens that a model trained elsewhere lacks get the ids after its pieces; ``notes`` says so.

        Raises:
            LifelongError: the file is missing, damaged or not such a model.
        """
        path = Path(path)
        tokenizer = cls()
        file = path / MODEL if path.is_dir() else path
        if not file.is_file():
            raise LifelongError("file not found", where=str(file), fix="Give a spm.model, or a directory with one.")
        data = file.read_bytes()
        if path.is_dir() and read_json(path / CONFIG).get(_RUNTIME) != "sentencepiece":
            tokenizer._spm = data
            tokenizer.adopt(find_json(path).read_bytes(), str(path))
        else:
            if path.is_dir():
                find_json(path)  # for its check of the manifest
            tokenizer._import(data, str(file))
        tokenizer._wanted = tokenizer.vocab_size
        return tokenizer

    def _import(self, data: bytes, where: str) -> None:
        from sentencepiece import SentencePieceProcessor

        model = read_spm(data, where)
        self.special = _find_special(model)
        typed = [p for p in model.pieces if p.text in self.special.spellings and p.type == USER_DEFINED]
        # A user-defined piece is an ordinary word to the library: whoever types it would speak as the assistant.
        self._spm = make_control(data, typed)
        model = read_spm(self._spm, where)
        try:
            self._processor = SentencePieceProcessor(model_proto=self._spm)
        except RuntimeError as error:
            raise LifelongError(f"not a SentencePiece model: {error}", where=where) from None
        self._bos = next((p.text for p in model.pieces if p.type == CONTROL and p.text in ("<s>", "<bos>")), None)
        texts = {piece.text for piece in model.pieces}
        missing = tuple(token for token in self.special.spellings if token not in texts)
        self.adopt(to_json(model, missing, imported=True, where=where), where)
        self.notes = [f"{piece.text} was an ordinary piece; now no text can become it" for piece in typed]
        if missing:
            self.notes.append(f"added to the vocabulary, from id {len(model.pieces)}: {' '.join(missing)}")
        if model.charsmap or model.remove_extra_whitespaces:
            self.notes.append("it normalises text, so not every text comes back from its ids as it was")

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if self._processor is None:
            return super()._encode(texts)
        try:
            ids: list[list[int]] = self._processor.encode(texts)
        except (TypeError, UnicodeEncodeError):  # by the list or the single text
            raise LifelongError(HALF) from None
        return ids

    @cached_property
    def _words(self) -> WordCache | None:
        pattern = word_pattern(self.data) if self._processor is None else None
        return WordCache(pattern, self._encode, self._encode_words) if pattern else None

    def _encode_words(self, words: list[str]) -> list[list[int]]:
        """Encode words in the library where it is installed: it is 4.6 times as fast, and for these gives the same ids.

        Not for those that hold its own sign for a space, or what could be spelled like an entry of the vocabulary.
        """
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError:
            return self._encode(words)
        if self._fast is None:
            self._fast = SentencePieceProcessor(model_proto=self._spm)
        plain = [not _OWN.search(word) and len(word) < _EXACT for word in words]
        fast = iter(self._fast.encode([word for word, ok in zip(words, plain, strict=True) if ok], num_threads=1))
        slow = iter(self._encode([word for word, ok in zip(words, plain, strict=True) if not ok]))
        return [next(fast if ok else slow) for ok in plain]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids; bytes that are not UTF-8 come out as U+FFFD."""
        if self._processor is None:
            return super().decode(ids, skip_special_tokens)
        special = {self._id(token): token for token in self.special.spellings}
        if skip_special_tokens:
            return str(self._processor.decode([token for token in ids if token not in special]))
        groups = groupby(ids, key=special.get)
        return "".join(
            token * len(list(group)) if token else self._processor.decode(list(group)) for token, group in groups
        )

    def write_files(self, folder: Path, *, mask_id: int | None = None, behind: Sequence[str] = ()) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``spm.model``."""
        super().write_files(folder, mask_id=mask_id, behind=behind)
        write_bytes(folder / MODEL, self._spm)

    def config(self) -> dict[str, Any]:
        """Return what ``tokenizer_config.json`` holds."""
        config = super().config()
        unknown = next(piece.text for piece in read_spm(self._spm, MODEL).pieces if piece.type == 2)
        config |= {"bos_token": self._bos or config["bos_token"], "unk_token": unknown}
        return config | ({_RUNTIME: "sentencepiece"} if self._processor else {})


def _find_special(model: SpmModel) -> SpecialTokens:
    """Return how a model trained elsewhere spells the special tokens: by name, or by place (3 to 6, as ours)."""
    marks = {piece.text for piece in model.pieces if piece.type in (CONTROL, USER_DEFINED)}
    found: dict[str, Any] = dict(known_spellings(marks))
    turns = ("system", "user", "assistant", "end_of_turn")
    by_place = [piece.text for piece in model.pieces[3:7] if piece.text in marks]
    if not found.keys() & set(turns) and len(by_place) == len(turns):
        found |= dict(zip(turns, by_place, strict=True))
    return SpecialTokens(**found)
