"""From token caches back to documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.text.document import ROLES, Document, join_messages
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loading import load_tokenizer
from lifelong.tokens.shards import TokenCache

TOKENIZERS = "tokenizers"  # beside the caches, each under the start of its fingerprint


def tokenizer_place(root: Path, fingerprint: str) -> Path:
    """Return where the tokenizer of caches below ``root`` is kept."""
    return root / TOKENIZERS / fingerprint[:12]


def tokenizer_of(cache: TokenCache) -> Tokenizer:
    """Load the tokenizer that `lifelong cache build` left beside its caches.

    Raises:
        LifelongError: it is not there.
    """
    for folder in cache.path.resolve().parents[:4]:
        place = tokenizer_place(folder, cache.fingerprint)
        if place.is_dir():
            return load_tokenizer(place)
    raise LifelongError(
        "the tokenizer of this cache is not beside it", where=str(cache.path), fix="Name it with --tokenizer DIR."
    )


def decode_documents(cache: TokenCache, tokenizer: Tokenizer, indices: Iterable[int]) -> Iterator[Document]:
    """Yield documents of a cache as text, or as conversations where a document is one."""
    name = "/".join(cache.path.parts[-2:])
    for index in indices:
        ids, _ = cache.document(index)
        messages = decode_messages(ids.tolist(), tokenizer)
        text = join_messages(messages) if messages else tokenizer.decode(ids.tolist())
        kind = "chat" if messages else "text"
        yield Document(text, str(cache.path), f"{name}#{index}", kind, messages=messages, line=index + 1)


def decode_messages(ids: list[int], tokenizer: Tokenizer) -> tuple[dict[str, str], ...] | None:
    """Return the messages of a conversation's ids, or None where they are of running text."""
    openings = {role: tokenizer.opening_ids(role) for role in ROLES}
    if not ids or ids[0] not in tokenizer.role_token_ids:
        return None
    messages, begin = [], 0
    for at, token in enumerate(ids):
        if token == tokenizer.end_of_turn_id:
            role = next(role for role, opening in openings.items() if ids[begin : begin + len(opening)] == opening)
            messages.append({"role": role, "content": tokenizer.decode(ids[begin + len(openings[role]) : at])})
            begin = at + len(tokenizer.closing_ids)
    return tuple(messages)
