"""What a row of a known format says: a text, or a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifelong.text.document import ROLES, BadInput, join_messages

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

Messages = tuple[dict[str, str], ...]
EXAMPLE = 'A chat row is {"messages": [{"role": "user", "content": "..."}, ...]}, a text row {"text": "..."}.'
OUTPUTS = ("output", "response")
ENDS = ("completion", "response")
_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(slots=True)
class Meaning:
    """What the content of a row became."""

    text: str = ""
    messages: Messages | None = None
    kind: str = "text"
    used: set[str] = field(default_factory=set)
    meta: dict[str, Any] = field(default_factory=dict)


def type_name(value: Any) -> str:
    """Return the name of a value's type as JSON knows it."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


class Reader:
    """Reads one row in a given format; every problem names the place and the key."""

    def __init__(self, row: dict[str, Any], where: str, file: SourceFile) -> None:
        self.row, self.where, self.file = row, where, file
        self.used: set[str] = set()

    def read(self, name: str) -> Meaning:
        """Return what the row, which has the keys of this format, means.

        Raises:
            BadInput: ``missing-key`` (of a message), ``wrong-type``, ``unknown-role`` or ``empty-messages``.
        """
        meaning: Meaning = getattr(self, f"_{name}")()
        meaning.used = self.used
        if meaning.messages is not None:
            _check_turns(meaning.messages, self.where)
            meaning.text, meaning.kind = join_messages(meaning.messages), "chat"
        return meaning

    def _documents(self) -> Meaning:
        text = self._string("text" if "text" in self.row else "content")
        title = self._optional("title") if "text" not in self.row else ""
        if not title:
            return Meaning(text=text)
        # A heading is how a title stands in running text; Markdown, so that cleaning leaves code blocks alone.
        return Meaning(text=f"# {' '.join(title.split())}\n\n{text}", kind="markdown", meta={"title": title})

    def _chat(self) -> Meaning:
        return Meaning(messages=self._turns("messages", "role", "content", {role: role for role in ROLES}))

    def _sharegpt(self) -> Meaning:
        key = "conversations" if "conversations" in self.row else "conversation"
        turns = self.row[key]
        plain = isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "from" not in turns[0]
        names = ("role", "content") if plain else ("from", "value")
        return Meaning(messages=self._system() + self._turns(key, *names, _SPEAKERS))

    def _alpaca(self) -> Meaning:
        asked = _joined(self._string("instruction"), self._optional("input"), self._optional("context"))
        output = next(key for key in OUTPUTS if key in self.row)
        return Meaning(messages=self._system() + _exchange(asked, self._string(output)))

    def _qa(self) -> Meaning:
        asked = _joined(self._optional("context"), self._string("question"))
        return Meaning(messages=_exchange(asked, self._string("answer")))

    def _completion(self) -> Meaning:
        end = next(key for key in ENDS if key in self.row)
        if isinstance(self.row["prompt"], list):  # prompt and completion as messages
            roles = {role: role for role in ROLES}
            return Meaning(
                messages=self._turns("prompt", "role", "content", roles) + self._turns(end, "role", "content", roles)
            )
        return Meaning(messages=_exchange(self._string("prompt"), self._string(end)))

    def _string(self, key: str) -> str:
        self.used.add(key)
        value = self.row[key]
        if not isinstance(value, str):
            raise BadInput("wrong-type", f"'{key}' must be a string, not {type_name(value)}", where=self.where)
        return value

    def _optional(self, key: str) -> str:
        if self.row.get(key) is None:
            self.used.add(key)
            return ""
        return self._string(key)

    def _system(self) -> Messages:
        text = self._optional("system")
        return ({"role": "system", "content": text},) if text else ()

    def _turns(self, key: str, role: str, content: str, roles: Mapping[str, str]) -> Messages:
        self.used.add(key)
        value = self.row[key]
        if not isinstance(value, list):
            raise BadInput("wrong-type", f"'{key}' must be a list, not {type_name(value)}", where=self.where)
        if not value:
            raise BadInput("empty-messages", f"'{key}' must be a list of at least one message", where=self.where)
        return tuple(self._turn(f"message {i}", m, role, content, roles) for i, m in enumerate(value, start=1))

    def _turn(self, what: str, message: Any, role: str, content: str, roles: Mapping[str, str]) -> dict[str, str]:
        if not isinstance(message, dict):
            raise BadInput("wrong-type", f"{what} must be an object, not {type_name(message)}", where=self.where)
        for wanted in (role, content):
            if wanted not in message:
                raise BadInput("missing-key", f"{what} has no '{wanted}'", where=self.where, fix=EXAMPLE)
        speaker, text = message[role], message[content]
        if not isinstance(text, str):
            raise BadInput("wrong-type", f"{what} needs a string '{content}', not {type_name(text)}", where=self.where)
        if not isinstance(speaker, str) or speaker not in roles:
            raise BadInput(
                "unknown-role",
                f"{what} has the role {str(speaker)[:40]!r}",
                where=self.where,
                fix=f"Roles: {', '.join(roles)}.",
            )
        for key in message.keys() - {role, content}:
            self.file.notes[f"key {str(key)[:40]!r} of messages left out"] += 1
        return {"role": roles[speaker], "content": text}


def _check_turns(messages: Messages, where: str) -> None:
    if not any(message["content"].strip() for message in messages):
        raise BadInput("empty-messages", "all messages are empty", where=where)


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part.strip())


def _exchange(asked: str, answered: str) -> Messages:
    return {"role": "user", "content": asked}, {"role": "assistant", "content": answered}
