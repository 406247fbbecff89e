"""Questions about a module's names, answered from its signatures and docstrings alone."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lifelong.text.python_source import Definition

LONGEST_ANSWER = 300  # characters
MOST = 100  # conversations about one module: tkinter alone has more names than the next five together
_ROLES = ("user", "assistant", "user", "assistant")
_Message = dict[str, str]

_WHAT = {
    "module": ("What is the module `{}` for?", "What does the module `{}` do?", "What is `{}`?", "Tell me about `{}`."),
    "class": ("What is `{}`?", "What is the class `{}` for?", "What does `{}` do?", "Describe `{}`."),
    "function": ("What does `{}` do?", "What is `{}` for?", "Explain `{}`.", "What does the function `{}` do?"),
    "method": ("What does `{}` do?", "What does the method `{}` do?", "What is `{}` for?", "Explain `{}`."),
    "property": ("What is `{}`?", "What does `{}` hold?", "What is the property `{}` for?", "Explain `{}`."),
}
_CALL = ("How do I call `{}`?", "What is the signature of `{}`?", "How is `{}` called?")
_ARGUMENTS = ("What arguments does `{}` take?", "Which parameters does `{}` have?")
_WHERE = ("Which module is `{}` in?", "Where do I find `{}`?")
_METHODS = ("Which methods does `{}` have?", "What can I call on `{}`?")
_WHICH = ("Which {kind} in `{module}` does this: {text}", "Name the {kind} in `{module}` with this purpose: {text}")

# A sentence ends at a stop before a capital or a backquote, unless the stop belongs to an abbreviation.
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)(?<!cf)(?<!\b[A-Z])[.!?](?=\s+[A-Z`\"'(]|$)")
# Marks of text that is laid out rather than written: doctests, tables, field lists, headings, call patterns.
_LAID_OUT = re.compile(r">>>|::|-{3,}|={3,}|\*{3,}|~{3,}|\+-|\|\s|->|@|^\s*[-*#:]|\$|\\n|_{3,}", re.MULTILINE)


# Words in small letters that some docstrings begin with.
_OPENERS = {"a", "an", "the", "this", "add", "check", "copy", "create", "find", "get", "make", "print", "read"}
_OPENERS |= {"remove", "return", "returns", "run", "send", "set", "test", "write"}


def conversations(known: Sequence[Definition]) -> list[list[_Message]]:
    """Return the conversations about one module, in the order of its definitions, without repetitions.

    Only public names with a docstring are asked about. Hashes of the names choose the phrasings, and which
    conversations stay where a module has more than `MOST`.
    """
    asked = [item for item in known if item.public and item.doc]
    answers = {item.name: answer for item in asked if (answer := short_answer(item.doc))}
    counts = Counter(answers.values())
    unique = {name for name, answer in answers.items() if counts[answer] == 1}
    rows: dict[tuple[str, ...], list[_Message]] = {}
    for item in asked:
        turns = list(_turns(item, answers.get(item.name), name_is_clear=item.name in unique))
        turns += _about_methods(item, known)
        exchanges = [[turn] for turn in turns]
        if item.name in answers and item.signature is not None and _number(item.name, "two turns") % 6 == 0:
            exchanges.append([turns[0], ("How do I call it?", _call(item))])
        for exchange in exchanges:
            texts = tuple(text for question, reply in exchange for text in (_typed(question), reply))
            if max(map(len, texts[1::2])) <= LONGEST_ANSWER:
                rows[texts] = [{"role": role, "content": text} for role, text in zip(_ROLES, texts, strict=False)]
    kept = sorted(rows, key=lambda texts: _number("\0".join(texts), "kept"))[:MOST]
    return [rows[texts] for texts in rows if texts in set(kept)]


def _typed(question: str) -> str:
    """Leave the backquotes out of every third question: most people type without them."""
    return question.replace("`", "") if _number(question, "typed") % 3 == 0 else question


def _turns(item: Definition, answer: str | None, *, name_is_clear: bool) -> Iterator[tuple[str, str]]:
    pick = _number(item.name, "phrase")
    module, _, short = item.name.rpartition(".")
    member = item.kind in ("method", "property")  # there are many: each is asked about once, or twice
    if answer:
        phrases = _WHAT[item.kind]
        if member:
            yield phrases[pick % 4].format(item.name), answer
        else:
            yield phrases[0].format(item.name), answer
            yield phrases[1 + pick % 3].format(item.name), answer
        if item.kind in ("class", "function") and name_is_clear and pick % 2:
            yield _WHICH[pick // 2 % 2].format(kind=item.kind, module=module, text=answer), f"`{item.name}`"
    if item.signature is not None and (not member or pick % 4 == 0):
        yield _CALL[pick % 3].format(item.name), _call(item)
        arguments = [name for name in item.arguments if not name.startswith("_")]
        if arguments and pick % 3 == 0:
            yield _ARGUMENTS[pick // 3 % 2].format(item.name), _list(arguments)
    if item.kind in ("class", "function") and item.depth == 1 and pick % 3 == 1:
        yield _WHERE[pick // 3 % 2].format(short), f"`{short}` is in the module `{module}`."


def _about_methods(item: Definition, known: Sequence[Definition]) -> Iterator[tuple[str, str]]:
    if item.kind != "class":
        return
    owned = (each.name.rpartition(".") for each in known if each.kind == "method" and each.public)
    if methods := list(dict.fromkeys(short for owner, _, short in owned if owner == item.name)):
        yield _METHODS[_number(item.name, "methods") % 2].format(item.name), _list(methods)


def _call(item: Definition) -> str:
    return f"`{item.name}({item.signature})`"


def _list(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] + "." if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}."


def _number(name: str, salt: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{name}".encode(), digest_size=4).digest(), "big")


def short_answer(doc: str) -> str | None:
    """Return the first one or two sentences of a docstring on one line, or None where it does not begin with prose."""
    paragraph = doc.split("\n\n", 1)[0].strip()
    if not paragraph or _LAID_OUT.search(paragraph):
        return None
    text = " ".join(paragraph.split())
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if not ends:
        if len(text) > LONGEST_ANSWER or text[-1] in ":,;(":
            return None
        text, ends = text + ".", [len(text) + 1]
    fitting = [end for end in ends[:2] if end <= LONGEST_ANSWER]
    if not fitting:
        return None
    answer = text[: fitting[-1]]
    first = answer.split()[0].rstrip(",")
    if first.isalpha() and first.islower():  # a name in small letters that opens a sentence would look the same
        answer = answer[0].upper() + answer[1:] if first in _OPENERS else ""
    wordy = len(answer.split()) >= 4 and answer[0].isupper() and answer.count("(") == answer.count(")")
    return answer if wordy else None
