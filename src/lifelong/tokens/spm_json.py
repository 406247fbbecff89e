"""A ``tokenizer.json`` that gives a SentencePiece model's ids in ``tokenizers``, and so in transformers.

A space stays a space here, where the library writes U+2581 for it. So a U+2581 in a text is a character like any other
(bytes, as it is in no piece) and survives the round trip, which it does not in the library.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from lifelong.errors import LifelongError
from lifelong.tokens.spm import BYTE, CONTROL, SPACE, UNKNOWN, USER_DEFINED, SpmModel
from lifelong.tokens.words import LINES, SPACES

UNIGRAM, BPE = 1, 2


def to_json(model: SpmModel, added: tuple[str, ...], *, imported: bool, where: str) -> bytes:
    """Return the bytes of a ``tokenizer.json``.

    Args:
        model: the model.
        added: special tokens that it lacks; they get the ids after its pieces.
        imported: keep the library's own treatment of U+2581 (a space), white space and normalisation.
        where: the file, for messages.

    Raises:
        LifelongError: the model is neither unigram nor BPE.
    """
    if model.model_type not in (UNIGRAM, BPE):
        raise LifelongError(
            "the model cuts text into words or characters", where=where, fix="Use a unigram or BPE one."
        )
    pieces = [piece.text.replace(SPACE, " ") if model.escape_whitespaces else piece.text for piece in model.pieces]
    unknown = next(number for number, piece in enumerate(model.pieces) if piece.type == UNKNOWN)
    core: dict[str, Any]
    if model.model_type == UNIGRAM:
        vocab = [[text, piece.score] for text, piece in zip(pieces, model.pieces, strict=True)]
        vocab += [[token, 0.0] for token in added]
        core = {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": model.byte_fallback}
    else:
        core = {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": model.byte_fallback,
            "ignore_merges": False,
            "vocab": {text: number for number, text in enumerate([*pieces, *added])},
            "merges": _merges(model, pieces),
        }
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(model, pieces, added),
        "normalizer": _normalizer(model) if imported else None,
        "pre_tokenizer": _pre_tokenizer(model, pieces, added),
        "post_processor": None,
        "decoder": _decoder(model if imported else None),
        "model": core,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1).encode("utf-8")


def _added_tokens(model: SpmModel, pieces: list[str], added: tuple[str, ...]) -> list[dict[str, Any]]:
    rest = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    found = [
        {"id": number, "content": text, **rest, "special": piece.type != USER_DEFINED}
        for number, (text, piece) in enumerate(zip(pieces, model.pieces, strict=True))
        if piece.type in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    new = [{"id": len(pieces) + number, "content": text, **rest, "special": True} for number, text in enumerate(added)]
    return found + new


def _pre_tokenizer(model: SpmModel, pieces: list[str], added: tuple[str, ...]) -> dict[str, Any] | None:
    """Cut text where no piece can cross, which changes no id and lets words be remembered."""
    steps = []
    # A space begins a word: no piece has one behind another character. In those trained here a line end ends it, too.
    if not any(re.search(r"[^ ] ", text) for text in pieces):
        words = SPACES if any(re.search(r"\n[^\n]", text) for text in pieces) else LINES
        steps.append({"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False})
    if model.model_type == UNIGRAM:
        # Here every entry of the vocabulary can be spelled, also "</s>" and "<0x41>". The library keeps such entries
        # out; `tokenizers` does not, so the text is cut behind the first character of their spellings.
        kept = {text for text, piece in zip(pieces, model.pieces, strict=True) if piece.type in (UNKNOWN, CONTROL)}
        heads: dict[str, list[str]] = {}
        for text in sorted(kept | set(added)):
            heads.setdefault(text[0], []).append(re.escape(text[1:]).replace("\\ ", " "))
        if any(piece.type == BYTE for piece in model.pieces):
            heads.setdefault("<", []).append("0x[0-9A-F]{2}>")
        pattern = "|".join(f"{re.escape(head)}(?={'|'.join(tails)})" for head, tails in sorted(heads.items()))
        steps.append({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False})
    return {"type": "Sequence", "pretokenizers": steps} if steps else None


def _normalizer(model: SpmModel) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode("ascii")})
    if model.escape_whitespaces:
        steps.append({"type": "Replace", "pattern": {"String": SPACE}, "content": " "})
    if model.remove_extra_whitespaces:
        steps.append({"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if model.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": " "})
    return {"type": "Sequence", "normalizers": steps} if steps else None


def _decoder(imported: SpmModel | None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if imported is not None and imported.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _merges(model: SpmModel, pieces: list[str]) -> list[list[str]]:
    """Return the pairs that make each piece, best piece first: the library merges whatever makes a piece."""
    scores = {
        text: piece.score
        for text, piece in zip(pieces, model.pieces, strict=True)
        if piece.type not in (UNKNOWN, CONTROL, BYTE)
    }
    ranked = sorted((-score, text) for text, score in scores.items() if len(text) > 1)
    return [
        [text[:at], text[at:]]
        for _, text in ranked
        for at in range(1, len(text))
        if text[:at] in scores and text[at:] in scores
    ]
