"""The tokenizer that a GGUF file describes, as a ``tokenizer.json`` that gives the same ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Library

from lifelong.errors import LifelongError
from lifelong.tokens.spm import CONTROL, UNKNOWN, USER_DEFINED, Piece, SpmModel
from lifelong.tokens.spm_json import BPE, to_json
from lifelong.tokens.words import LLAMA3, QWEN2

_KEY = "tokenizer.ggml."
# llama.cpp names the way in which text is cut into words, and leaves the patterns to its own source
# (src/llama-vocab.cpp). A file converted without regard to this name merges digits that the model never saw merged.
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")
_GPT2 = ("gpt-2", "gpt2")
_PATTERNS = {"qwen2": QWEN2, "llama-bpe": LLAMA3, "llama3": LLAMA3, "llama-v3": LLAMA3}


def gguf_tokenizer(fields: Mapping[str, Any], *, where: str) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a ``tokenizer.json``, and what stands beside it in ``tokenizer_config.json``.

    Args:
        fields: the file's keys and values.
        where: the file, for messages.

    Raises:
        LifelongError: the vocabulary is missing, or of a kind that is not known here.
    """
    kind = fields.get(_KEY + "model")
    tokens = fields.get(_KEY + "tokens")
    if not tokens:
        raise LifelongError("the file holds no vocabulary", where=where, fix="Convert the model again with it.")
    types = fields.get(_KEY + "token_type") or [1] * len(tokens)
    if kind == "gpt2":
        data = _byte_level(fields, tokens, types, where)
    elif kind == "llama":
        data = _sentencepiece(fields, tokens, types, where)
    else:
        raise LifelongError(
            f"the tokenizer is of kind '{kind}', not of gpt2's or llama's", where=where, fix="Choose another model."
        )
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    end = fields.get(_KEY + "eos_token_id")
    if end is not None:
        config["eos_token"] = tokens[int(end)]
    if template := fields.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return data, config


def _byte_level(fields: Mapping[str, Any], tokens: list[str], types: list[int], where: str) -> bytes:
    pre = fields.get(_KEY + "pre", "gpt-2")
    merges = [tuple(merge.split(" ", 1)) for merge in fields.get(_KEY + "merges") or ()]
    steps: list[Any]
    if pre in _GPT2:
        steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    elif pre in _SINGLE_DIGITS:
        steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    elif pre in _PATTERNS:
        cut = pre_tokenizers.Split(Regex(_PATTERNS[pre]), behavior="isolated")
        steps = [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        known = ", ".join((*_GPT2, *_SINGLE_DIGITS, *_PATTERNS))
        raise LifelongError(
            f"how the tokenizer cuts words is called '{pre}', which is not known here ({known})",
            where=where,
            fix="Get the model as a Hugging Face directory instead: its tokenizer.json says it in full.",
        )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise LifelongError("the vocabulary names a token twice", where=where, fix="Get the file again.")
    whole_words = pre in _PATTERNS and _PATTERNS[pre] == LLAMA3
    try:
        library = Library(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_words))
    except Exception as error:  # the library raises bare Exception
        raise LifelongError(f"the tokenizer cannot be put together: {error}", where=where) from None
    library.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    library.decoder = decoders.ByteLevel()
    for token, what in zip(tokens, types, strict=True):
        if what in (CONTROL, UNKNOWN):
            library.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif what == USER_DEFINED:
            library.add_tokens([AddedToken(token, special=False, normalized=False)])
    data: str = library.to_str()
    return data.encode("utf-8")


def _sentencepiece(fields: Mapping[str, Any], tokens: list[str], types: list[int], where: str) -> bytes:
    scores = fields.get(_KEY + "scores")
    if not scores or UNKNOWN not in types:
        raise LifelongError("the vocabulary has no scores, or no unknown token", where=where, fix="Get the file again.")
    model = SpmModel(
        pieces=[Piece(token, score, what, -1, -1) for token, score, what in zip(tokens, scores, types, strict=True)],
        model_type=BPE,
        byte_fallback=True,
        add_dummy_prefix=bool(fields.get(_KEY + "add_space_prefix", True)),
        remove_extra_whitespaces=bool(fields.get(_KEY + "remove_extra_whitespaces", False)),
    )
    return to_json(model, (), imported=True, where=where)
