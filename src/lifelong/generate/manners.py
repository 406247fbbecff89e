"""What a model directory tells about conversations: whether the model was taught any, and with system prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lifelong import progress
from lifelong.model.store import HOME, ModelStore
from lifelong.tokens.base import Tokenizer


@dataclass(frozen=True)
class Manners:
    """What was found.

    Attributes:
        chats: whether it was taught conversations.
        system: whether any of them that it remembers had a system prompt.
        why: what shows it, in words.
    """

    chats: bool
    system: bool
    why: str


def read_manners(place: Path, tokenizer: Tokenizer) -> Manners:
    """Look into a model directory, or that of a run's checkpoint."""
    memory = [file for file in sorted((place / HOME).glob("*/**/*.jsonl")) if file.is_file()]
    conversations = [line for file in memory for line in _conversations(file)]
    system = any('"role": "system"' in line for line in conversations)
    if conversations:
        count = progress.spell_count(len(conversations), "conversation")
        found = f"it remembers {count}, {'some' if system else 'none'} with a system prompt"
        return Manners(True, system, found)
    history = ModelStore.open(place).history()
    if any(event.get("phase") == "sft" for event in history):
        return Manners(True, False, "it was trained with --phase sft")
    if tokenizer.special.chatml:
        return Manners(True, False, "its tokenizer has the tokens of ChatML")
    for folder in (place, *place.parents[:2]):
        settings = folder / "resolved_settings.yaml"
        if settings.is_file() and "phase: sft" in settings.read_text(encoding="utf-8").splitlines():
            return Manners(True, False, f"its run in {folder} has --phase sft")
    # Every tokenizer trained here has our template, whatever its model was taught.
    if not history and not (place / HOME).is_dir() and _template(place) not in ("", tokenizer.special.chat_template):
        return Manners(True, False, "its tokenizer has a chat template")
    return Manners(False, False, "nothing in its directory tells of conversations")


def _conversations(file: Path) -> list[str]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return [line for line in lines if '"messages": [' in line]


def _template(place: Path) -> str:
    try:
        beside = place / "chat_template.jinja"
        if beside.is_file():
            return beside.read_text(encoding="utf-8")
        return str(json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template") or "")
    except (OSError, ValueError):
        return ""
