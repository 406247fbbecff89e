"""Rules on conversations: who speaks, in which order, and whether anything is answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def conversation_problems(messages: Sequence[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the rule and the details of everything wrong with a conversation.

    Expected is: system turns first, if any; then user and assistant in turn, the assistant last.
    """
    roles = [message["role"] for message in messages]
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    if not answers:
        yield "no-assistant-turn", f"only {' and '.join(dict.fromkeys(roles))} turns"
        return
    if not any(answer.strip() for answer in answers):
        yield "nothing-trained", "every assistant turn is empty"
        return
    if problem := _order(roles):
        yield "role-alternation", problem
    if roles[-1] != "assistant":
        yield "last-turn", f"the last of {len(roles)} turns is the {roles[-1]}'s"


def _order(roles: list[str]) -> str | None:
    first = next((index for index, role in enumerate(roles) if role != "system"), len(roles))
    if "system" in roles[first:]:
        return f"turn {roles.index('system', first) + 1} is the system's, after others have spoken"
    if roles[first] == "assistant":
        return f"turn {first + 1}, the first of the conversation, is the assistant's"
    for index in range(first + 1, len(roles)):
        if roles[index] == roles[index - 1]:
            return f"turns {index} and {index + 1} are both the {roles[index]}'s"
    return None


def question_and_answer(messages: Sequence[dict[str, str]]) -> tuple[str, str] | None:
    """Return what stands before the first answer, and that answer; None where there is no answer to a question."""
    before: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            return ("\0".join(before), message["content"]) if before else None
        before.append(f"{message['role']}\0{message['content']}")
    return None


def last_answer(messages: Sequence[dict[str, str]] | None, longest: int = 200) -> str:
    """Return the last answer, case and white space aside, where it is shorter than ``longest``; or nothing."""
    answers = [message["content"] for message in messages or () if message["role"] == "assistant"]
    folded = " ".join(answers[-1].casefold().split()) if answers else ""
    return folded if len(folded) < longest else ""
