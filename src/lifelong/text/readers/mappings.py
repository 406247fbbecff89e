"""What a row means: which keys make which format, and how each becomes a text or a conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifelong.errors import suggest
from lifelong.text.document import ROLES, BadInput, Document, join_messages
from lifelong.text.readers.facts import plain_facts
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

Messages = tuple[dict[str, str], ...]
_OUTPUTS = ("output", "response")
_ENDS = ("completion", "response")
# Per format the keys a row must have: of each group one. In the order in which they are tried.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "chat": (("messages",),),
    "sharegpt": (("conversations", "conversation"),),
    "alpaca": (("instruction",), _OUTPUTS),
    "qa": (("question",), ("answer",)),
    "completion": (("prompt",), _ENDS),
    "documents": (("text", "content"),),
}
_OPTIONAL = {
    "alpaca": ("input", "context", "system"),
    "qa": ("context",),
    "documents": ("title",),
    "sharegpt": ("system",),
}
# Every key that some format reads, for tables whose headings are written in capitals.
KNOWN_KEYS = {key for groups in REQUIRED.values() for group in groups for key in group} | {
    key for keys in _OPTIONAL.values() for key in keys
}
_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
# How data sets call their splits; `gate` is the validation split.
_SPLIT_NAMES = {"train": "train", "test": "test", "gate": "gate", "validation": "gate", "valid": "gate"}
_SPLIT_NAMES |= {"val": "gate", "dev": "gate", "eval": "gate"}
_EXAMPLE = 'A chat row is {"messages": [{"role": "user", "content": "..."}, ...]}, a text row {"text": "..."}.'


@dataclass(slots=True)
class Meaning:
    """What the content of a row became."""

    text: str = ""
    messages: Messages | None = None
    kind: str = "text"
    used: set[str] = field(default_factory=set)
    meta: dict[str, Any] = field(default_factory=dict)


class Rows:
    """Turns the rows of one file into documents, each by the format that its keys show (or the one that was given)."""

    def __init__(self, file: SourceFile, report: OnProblem) -> None:
        self.file, self.report = file, report
        self.last = file.row_format or ""

    def documents(self, rows: Iterator[tuple[int | None, Any]]) -> Iterator[Document]:
        """Yield a document a row; what is wrong with a row is reported, and costs that row only."""
        for line, row in rows:
            for part in squad_rows(row, self.file) if is_squad(row) else (row,):
                try:
                    yield self.document(line, part)
                except BadInput as problem:
                    self.report(problem)

    def document(self, line: int | None, row: Any) -> Document:
        """Return the document of one row, with every key that was not read as a fact beside it."""
        where = f"{self.file.path}:{line}" if line else str(self.file.path)
        if not isinstance(row, dict):
            raise BadInput(
                "wrong-type", f"a row must be a JSON object, not {type_name(row)}", where=where, fix=_EXAMPLE
            )
        self.last = name = self.file.row_format or detect(row) or self.last
        reader = Reader(row, where, self.file)
        meaning = reader.read(name or _nearest(row))
        rest = {key: value for key, value in row.items() if key not in meaning.used}
        try:
            meta = plain_facts(rest) | meaning.meta
        except ValueError:
            self.file.notes["facts beside the text too large to keep"] += 1
            meta = meaning.meta
        if isinstance(split := meta.get("split"), str):
            meta["split"] = split_name(split) or split
        file = self.file
        return Document(
            meaning.text, str(file.path), file.name, meaning.kind, "", file.weight, meaning.messages, line, meta
        )


def split_name(name: str) -> str | None:
    """Return ``train``, ``gate`` or ``test`` for a data set's name of a split, or None where it is another."""
    return _SPLIT_NAMES.get(name.lower())


def detect(keys: Mapping[str, Any]) -> str | None:
    """Return the format whose keys are all there, or None."""
    for name, groups in REQUIRED.items():
        if all(any(key in keys for key in group) for group in groups):
            return name
    return None


def _nearest(keys: Mapping[str, Any]) -> str:
    """Return the format of which at least one key is there, for the message about the others."""
    for name, groups in REQUIRED.items():
        if any(key in keys for group in groups for key in group):
            return name
    return "documents"


def missing_key(groups: tuple[tuple[str, ...], ...], keys: Mapping[str, Any], what: str, where: str) -> BadInput | None:
    """Return the problem of the first group of which no key is there, or None."""
    for group in groups:
        if not any(key in keys for key in group):
            wanted = group[0] if "content" not in group else "text"
            near = next((hint for key in keys if (hint := suggest(str(key), [wanted]))), "")
            given = ", ".join(str(key)[:40] for key in list(keys)[:12]) or "none"
            typo = f" Is '{next(k for k in keys if suggest(str(k), [wanted]))}' meant?" if near else ""
            return BadInput(
                "missing-key", f"the {what} has no '{wanted}' (its keys: {given}){typo}", where=where, fix=_EXAMPLE
            )
    return None


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
        """Return what the row means in this format.

        Raises:
            BadInput: ``missing-key``, ``wrong-type``, ``unknown-role``, ``empty-messages`` or ``no-assistant-turn``.
        """
        if problem := missing_key(REQUIRED[name], self.row, "row", self.where):
            raise problem
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
        output = next(key for key in _OUTPUTS if key in self.row)
        return Meaning(messages=self._system() + _exchange(asked, self._string(output)))

    def _qa(self) -> Meaning:
        asked = _joined(self._optional("context"), self._string("question"))
        return Meaning(messages=_exchange(asked, self._string("answer")))

    def _completion(self) -> Meaning:
        end = next(key for key in _ENDS if key in self.row)
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
                raise BadInput("missing-key", f"{what} has no '{wanted}'", where=self.where, fix=_EXAMPLE)
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
    if not any(message["role"] == "assistant" and message["content"].strip() for message in messages):
        raise BadInput(
            "no-assistant-turn",
            "the assistant says nothing in this conversation",
            where=where,
            fix="Leave the row out.",
        )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part.strip())


def _exchange(asked: str, answered: str) -> Messages:
    return {"role": "user", "content": asked}, {"role": "assistant", "content": answered}


def is_squad(row: Any) -> bool:
    """Whether an object holds a data set in SQuAD's form: articles with paragraphs with questions."""
    data = row.get("data") if isinstance(row, dict) else None
    return (
        isinstance(data, list) and bool(data) and all(isinstance(item, dict) and "paragraphs" in item for item in data)
    )


def squad_rows(row: dict[str, Any], file: SourceFile) -> Iterator[Any]:
    """Yield a question/answer row for every question; one that the paragraph does not answer is counted."""
    for article in row["data"]:
        for paragraph in article["paragraphs"] if isinstance(article["paragraphs"], list) else ():
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            for asked in questions if isinstance(questions, list) else ():
                answers = asked.get("answers") if isinstance(asked, dict) else None
                if not isinstance(answers, list) or not answers or not isinstance(answers[0], dict):
                    file.notes["questions without an answer left out"] += 1
                    continue
                facts = {"title": article["title"]} if "title" in article else {}
                facts |= {"id": asked["id"]} if "id" in asked else {}
                yield {
                    "context": paragraph.get("context"),
                    "question": asked.get("question"),
                    "answer": answers[0].get("text"),
                    **facts,
                }


def with_split(document: Document, split: str | None) -> Document:
    """Return the document with the split that its data set gives it, where it gives one."""
    return document if split is None else dataclasses.replace(document, meta=document.meta | {"split": split})
