"""A tokenizer in the words of a GGUF file, so that llama.cpp gives the same ids."""

from __future__ import annotations

import json
from typing import Any

from lifelong.errors import LifelongError
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.sentencepiece import SentencePieceTokenizer
from lifelong.tokens.spm import CONTROL, NORMAL, UNUSED, USER_DEFINED, read_spm
from lifelong.tokens.spm_json import BPE
from lifelong.tokens.words import GPT2, LLAMA3, QWEN2

# How llama.cpp names the patterns that cut words (src/llama-vocab.cpp).
_PRE = {GPT2: "gpt-2", QWEN2: "qwen2", LLAMA3: "llama-bpe"}
_DIGITS = "smollm"  # single digits, then GPT-2's pattern


def add_words(writer: Any, tokenizer: Tokenizer, rows: int, *, where: str) -> None:
    """Add vocabulary, special tokens and chat template to a ``GGUFWriter``.

    Args:
        writer: the file.
        tokenizer: whose ids the file's reader has to give.
        rows: of the embedding; ids beyond the vocabulary become unused tokens.
        where: the model, for messages.

    Raises:
        LifelongError: llama.cpp has no way to cut text like this tokenizer.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        _pieces(writer, tokenizer, rows, where)
    else:
        _byte_level(writer, tokenizer, rows, where)
    end = tokenizer.eos_id
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_eot_token_id(tokenizer.end_of_turn_id)
    # A chat begins with its first turn, so nothing is put before a text unasked; transformers does the same here.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(tokenizer.special.chat_template)


def _byte_level(writer: Any, tokenizer: Tokenizer, rows: int, where: str) -> None:
    whole = json.loads(tokenizer.data)
    core = whole["model"]
    name = _pre_name(whole)
    if core["type"] != "BPE" or name is None or whole.get("normalizer"):
        raise LifelongError(
            "llama.cpp knows no name for the way in which this tokenizer cuts words",
            where=where,
            fix="Export to onnx or huggingface, whose tokenizer.json says it in full.",
        )
    tokens, types = _holes(rows)
    for token, number in core["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in whole.get("added_tokens") or ():
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in core["merges"]])


def _pre_name(whole: dict[str, Any]) -> str | None:
    cutter = whole.get("pre_tokenizer") or {"type": "none"}
    first, *rest = cutter["pretokenizers"] if cutter["type"] == "Sequence" else [cutter]
    if first["type"] == "Digits" and first["individual_digits"] and len(rest) == 1:
        return _DIGITS if _is_gpt2(rest[0]) else None
    if _is_gpt2(first) and not rest:
        return _PRE[GPT2]
    if first["type"] != "Split" or first["behavior"] != "Isolated" or first["invert"] or len(rest) != 1:
        return None
    plain = rest[0]["type"] == "ByteLevel" and not rest[0]["add_prefix_space"] and not rest[0].get("use_regex", True)
    pattern = first["pattern"].get("Regex")
    if not plain or (pattern == LLAMA3) != bool(whole["model"].get("ignore_merges")):
        return None
    return _PRE.get(pattern)


def _is_gpt2(step: dict[str, Any]) -> bool:
    return bool(step["type"] == "ByteLevel" and not step["add_prefix_space"] and step.get("use_regex", True))


def _pieces(writer: Any, tokenizer: SentencePieceTokenizer, rows: int, where: str) -> None:
    model = read_spm(tokenizer.spm, where)
    if model.model_type != BPE:
        raise LifelongError(
            "llama.cpp spells no character in bytes for a unigram SentencePiece model, not even a line end: it would "
            "give other ids",
            where=where,
            fix="Export to onnx or huggingface; or train with byte-level words (lifelong tokenizer train --kind bpe).",
        )
    tokens, types = _holes(rows)
    scores = [0.0] * rows
    for number, piece in enumerate(model.pieces):
        tokens[number], types[number], scores[number] = piece.text, piece.type, piece.score
    for added in json.loads(tokenizer.data).get("added_tokens") or ():
        if added["id"] >= len(model.pieces):
            tokens[added["id"]], types[added["id"]] = added["content"], CONTROL
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(model.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(model.remove_extra_whitespaces)


def _holes(rows: int) -> tuple[list[str], list[int]]:
    """Return a vocabulary of unused tokens: what ids are that the tokenizer never gives."""
    return [f"[UNUSED{number}]" for number in range(rows)], [UNUSED] * rows
