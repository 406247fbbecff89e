"""The tokens that no text can become, and the chat format made of them.

A conversation is ``<|user|>question<|end|><|assistant|>answer<|end|>``, with nothing between the turns.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from lifelong.errors import LifelongError

# What a masked-language model reads in place of a hidden token; no part of the chat format, see `masking`.
MASK = "<|mask|>"
ROLES = ("system", "user", "assistant")
# Spellings by which the tokens are known in tokenizers made elsewhere, best first.
_KNOWN = {
    "end_of_text": ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"),
    "system": ("<|system|>", "<|sys|>", "<system>", "<sys>"),
    "user": ("<|user|>", "<|usr|>", "<user>", "<usr>"),
    "assistant": ("<|assistant|>", "<|asst|>", "<assistant>", "<asst>"),
    "end_of_turn": ("<|end|>", "<|eot|>", "<eot>"),
}


@dataclass(frozen=True)
class SpecialTokens:
    """How the special tokens are spelled: the end of a document, and those of the chat format."""

    end_of_text: str = "<|endoftext|>"
    system: str = "<|system|>"
    user: str = "<|user|>"
    assistant: str = "<|assistant|>"
    end_of_turn: str = "<|end|>"

    @property
    def spellings(self) -> tuple[str, ...]:
        """All five, in the order of their ids in a byte-level tokenizer trained here."""
        return (self.end_of_text, self.system, self.user, self.assistant, self.end_of_turn)

    def role(self, name: str) -> str:
        """Return the token that opens a message of a role; raises LifelongError for a role there is not."""
        if name not in ROLES:
            raise LifelongError(f"unknown role '{name}'", fix=f"Roles: {', '.join(ROLES)}.")
        spelling: str = getattr(self, name)
        return spelling

    @property
    def chat_template(self) -> str:
        """A Jinja template that gives, for contents without special tokens, exactly the ids of `encode_chat`."""
        if all(self.role(role) == f"<|{role}|>" for role in ROLES):
            opening = "'<|' + message['role'] + '|>'"
        else:
            opening = "{" + ", ".join(f"{role!r}: {self.role(role)!r}" for role in ROLES) + "}[message['role']]"
        return (
            "{% for message in messages %}{{ "
            f"{opening} + message['content'] + {self.end_of_turn!r}"
            " }}{% endfor %}{% if add_generation_prompt %}{{ "
            f"{self.assistant!r}"
            " }}{% endif %}"
        )


def known_spellings(vocabulary: Container[str]) -> dict[str, str]:
    """Return which special tokens a vocabulary has, under which of the spellings they are known by."""
    found = {key: next((word for word in words if word in vocabulary), None) for key, words in _KNOWN.items()}
    return {key: word for key, word in found.items() if word}
