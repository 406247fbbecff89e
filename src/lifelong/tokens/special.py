"""The tokens that no text can become, and the chat format made of them.

A conversation is ``<|user|>question<|end|><|assistant|>answer<|end|>``, with nothing between the turns. A model from
elsewhere that was taught ChatML keeps to that: ``<|im_start|>user``, a line end, the question, ``<|im_end|>``, and
another line end.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from lifelong.errors import LifelongError

# What a masked-language model reads in place of a hidden token; no part of the chat format, see `masking`.
MASK = "<|mask|>"
ROLES = ("system", "user", "assistant")
CHATML = ("<|im_start|>", "<|im_end|>")
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
    """How the special tokens are spelled: the end of a document, and those of the chat format.

    With ``chatml`` one token opens a message of any role, and the role follows it as text.
    """

    end_of_text: str = "<|endoftext|>"
    system: str = "<|system|>"
    user: str = "<|user|>"
    assistant: str = "<|assistant|>"
    end_of_turn: str = "<|end|>"
    chatml: bool = False

    @classmethod
    def of_chatml(cls, end_of_text: str) -> SpecialTokens:
        """Return the spellings of ChatML."""
        start, end = CHATML
        return cls(end_of_text, start, start, start, end, chatml=True)

    @property
    def spellings(self) -> tuple[str, ...]:
        """All different ones, in the order of their ids in a byte-level tokenizer trained here."""
        return tuple(dict.fromkeys((self.end_of_text, self.system, self.user, self.assistant, self.end_of_turn)))

    def after_opening(self, role: str) -> str:
        """Return the text between the token that opens a message and the message."""
        return f"{role}\n" if self.chatml else ""

    @property
    def after_turn(self) -> str:
        """Text between the token that ends a turn and the next turn."""
        return "\n" if self.chatml else ""

    def role(self, name: str) -> str:
        """Return the token that opens a message of a role; raises LifelongError for a role there is not."""
        if name not in ROLES:
            raise LifelongError(f"unknown role '{name}'", fix=f"Roles: {', '.join(ROLES)}.")
        spelling: str = getattr(self, name)
        return spelling

    @property
    def chat_template(self) -> str:
        """A Jinja template that gives, for contents without special tokens, exactly the ids of `encode_chat`.

        With ``chatml`` also the contents' first and last characters must not be white space, which would join the line
        ends beside it.
        """
        if self.chatml:
            return (
                "{% for message in messages %}{{ "
                f"{self.user!r} + message['role'] + '\\n' + message['content'] + {self.end_of_turn!r} + '\\n'"
                " }}{% endfor %}{% if add_generation_prompt %}{{ "
                f"{self.assistant + 'assistant'!r} + '\\n'"
                " }}{% endif %}"
            )
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
