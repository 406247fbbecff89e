"""Tokenizers made elsewhere: read, given what the chat format needs, and every change named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from lifelong.errors import LifelongError
from lifelong.files import read_json
from lifelong.tokens.base import CONFIG, JSON, Tokenizer
from lifelong.tokens.sentencepiece import MODEL, SentencePieceTokenizer
from lifelong.tokens.special import CHATML, SpecialTokens, known_spellings


def import_tokenizer(path: str | Path) -> tuple[Tokenizer, list[str]]:
    """Read a Hugging Face ``tokenizer.json`` (or its directory) or a ``spm.model``, whatever special tokens it has.

    Special tokens that are missing get the ids after the vocabulary, so all its own ids stay as they are.

    Returns:
        the tokenizer, and what was added or changed, in sentences.

    Raises:
        LifelongError: there is no such file, or it is damaged.
    """
    path = Path(path)
    folder, file = (path, path / JSON) if path.is_dir() else (path.parent, path)
    models = [folder / name for name in (MODEL, "tokenizer.model")] if path.is_dir() else [path]
    if not file.is_file() or file.suffix == ".model":
        model = next((found for found in models if found.is_file() and found.suffix == ".model"), None)
        if model is None:
            raise LifelongError("no tokenizer here", where=str(path), fix=f"Give a {JSON} or a {MODEL}.")
        tokenizer = SentencePieceTokenizer.load(model)
        return tokenizer, tokenizer.notes
    return _import_json(file, read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {})


def _import_json(file: Path, config: dict[str, Any]) -> tuple[Tokenizer, list[str]]:
    notes = []
    template = _template(file.parent, config)
    try:
        whole = json.loads(file.read_bytes())
        library = Library.from_str(json.dumps(whole))
    except Exception as error:  # the library raises bare Exception
        raise LifelongError(f"not a tokenizer.json: {error}", where=str(file)) from None
    special = _special(library, config, template)
    for part, loss in (("truncation", "cut texts off"), ("padding", "fill texts up"), ("post_processor", "")):
        if whole.get(part) and (part != "post_processor" or library.num_special_tokens_to_add(is_pair=False)):
            whole[part] = None
            notes.append(f"its {part} was taken out: it would {loss or 'put tokens around every text'}")
    library = Library.from_str(json.dumps(whole))
    missing = [token for token in special.spellings if library.token_to_id(token) is None]
    if missing:
        library.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
        first = library.token_to_id(missing[0])
        notes.append(f"added to the vocabulary, from id {first}: {' '.join(missing)}")
    whole = json.loads(library.to_str())
    listed = {token["content"]: token for token in whole["added_tokens"]}
    for token in special.spellings:
        if token not in listed:  # a word of the model that is not marked as special
            library.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif not listed[token]["special"]:
            notes.append(f"{token} was an ordinary token; now no text can become it")
    whole = json.loads(library.to_str())
    for token in whole["added_tokens"]:
        token["special"] = token["special"] or token["content"] in special.spellings
    tokenizer = Tokenizer()
    tokenizer.special = special
    tokenizer.adopt(json.dumps(whole, ensure_ascii=False).encode("utf-8"), str(file))
    if special.chatml:
        notes.append("it speaks ChatML, as it was taught; a system prompt that its template adds by itself is left out")
    elif template:
        notes.append("its chat template was replaced by the one that models here learn")
    if whole.get("normalizer"):
        notes.append("it normalises text, so not every text comes back from its ids as it was")
    return tokenizer, notes


def _template(folder: Path, config: dict[str, Any]) -> str:
    """Return the chat template beside a tokenizer; transformers 5 writes a file of its own for it."""
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template")
    return found if isinstance(found, str) else json.dumps(found) if found else ""


def _special(library: Library, config: dict[str, Any], template: str) -> SpecialTokens:
    if "lifelong_special_tokens" in config:
        return SpecialTokens(**config["lifelong_special_tokens"])
    found = known_spellings(library.get_vocab())
    named = config.get("eos_token")
    named = named.get("content") if isinstance(named, dict) else named
    if CHATML[0] in template and all(library.token_to_id(token) is not None for token in CHATML):
        # The end of a turn is no end of a document, though models tuned to chat name it as their end.
        ends = [word for word in (named, found.get("end_of_text")) if word and word != CHATML[1]]
        return SpecialTokens.of_chatml(
            next((word for word in ends if library.token_to_id(word) is not None), CHATML[1])
        )
    if named and library.token_to_id(named) is not None:
        found["end_of_text"] = named
    return SpecialTokens(**{**asdict(SpecialTokens()), **found})
