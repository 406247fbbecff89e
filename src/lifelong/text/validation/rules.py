"""Every rule of a data-quality report: how grave it is, what it means in a few words, and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Rule(NamedTuple):
    """How grave a finding is, its title on the screen, and what a user does about it."""

    severity: Severity
    title: str
    fix: str


RULES = {
    # Errors: what cannot be trained on, or would make the measurement a lie.
    "not-utf8": Rule("error", "not UTF-8", "Convert the file, for example: iconv -f latin1 -t utf-8 OLD > NEW"),
    "bad-json": Rule("error", "not valid JSON", "Mend the line, or leave it out."),
    "wrong-type": Rule("error", "a value of the wrong type", "Give the type that the message names."),
    "missing-key": Rule("error", "a key is missing", "Add it, or say which kind of rows these are: SOURCE:KIND."),
    "unknown-role": Rule("error", "a role that is none", "Use system, user and assistant."),
    "empty-messages": Rule("error", "a conversation without messages", "Leave the row out."),
    "no-assistant-turn": Rule("error", "a conversation without an answer", "Add the answer, or leave the row out."),
    "turn-token-missing": Rule(
        "error",
        "the chat template lacks a turn token",
        "Use a tokenizer made by `lifelong tokenizer train` or `import`.",
    ),
    "nothing-trained": Rule(
        "error", "nothing to learn from", "Give the assistant's turns content, or leave the row out."
    ),
    "all-truncated": Rule(
        "error", "no answer within --max-length", "Raise --max-length, or shorten what stands before the answer."
    ),
    "split-overlap": Rule(
        "error",
        "the same record in train and test",
        "Run `lifelong prepare` on all sources together: it splits cleanly.",
    ),
    # Warnings: what can be trained on, and is rarely meant.
    "role-alternation": Rule("warning", "turns do not alternate", "Merge neighbouring turns of one speaker."),
    "last-turn": Rule(
        "warning", "the last turn is not the assistant's", "What follows the last answer teaches nothing."
    ),
    "unknown-keys": Rule(
        "warning", "keys that are not read", "Check the spelling; what is not read is not trained on."
    ),
    "empty-text": Rule("warning", "documents without text", "They are dropped by `lifelong prepare`."),
    "over-long": Rule("warning", "conversations cut at --max-length", "Raise --max-length, or split them."),
    "exact-duplicate": Rule("warning", "exact duplicates", "`lifelong prepare` keeps the first of each."),
    "near-duplicate": Rule("warning", "near duplicates", "`lifelong prepare` keeps the first of each."),
    "conflicting-answers": Rule(
        "warning", "the same question with different answers", "Keep the better answer, where only one is right."
    ),
    "split-leak": Rule(
        "warning", "leak between splits", "Run `lifelong prepare` on all sources together: it splits cleanly."
    ),
    "unbalanced-fence": Rule("warning", "a code fence that is never closed", "Close it with the marks that opened it."),
    "mojibake": Rule("warning", "garbled characters (mojibake)", "`lifelong prepare` repairs what can be repaired."),
    "repetition": Rule("warning", "repetitive text", "Leave it out unless the repetition is meant."),
    "symbols": Rule(
        "warning",
        "more symbols or lists than prose",
        "Look at them: lists and tables teach little prose; code is read as SOURCE:code.",
    ),
    "secret": Rule("warning", "secrets", "Revoke them and take them out: models repeat what they have read."),
    "personal-data": Rule("warning", "personal data", "Take it out unless it may be repeated to anyone."),
    "language": Rule("warning", "another language than the rest of the source", "Leave it out unless it is meant."),
    "byte-fallback": Rule(
        "warning", "text that the tokenizer spells in bytes", "Train the tokenizer on text of this kind too."
    ),
}
