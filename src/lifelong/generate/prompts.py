"""Prompts from a file: one a line, or JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lifelong.errors import LifelongError


def read_prompts(path: Path, on_note: Callable[[str], None]) -> list[str]:
    """Return the prompts of a file: of ``.jsonl`` each line's string, or its object's ``"prompt"``; else each line.

    Empty lines are left out, and ``on_note`` says how many.

    Raises:
        LifelongError: the file cannot be read, a line is no prompt, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LifelongError(f"cannot read the prompts: {error}", where=str(path)) from None
    reads = _from_json if path.suffix == ".jsonl" else lambda line, where: line
    prompts = [reads(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise LifelongError("there is no prompt in the file", where=str(path), fix="Write one prompt a line.")
    if empty := len(lines) - len(prompts):
        on_note(f"{empty} empty lines of {path} are left out")
    return prompts


def _from_json(line: str, where: str) -> str:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise LifelongError(f"not JSON: {error}", where=where) from None
    prompt = found.get("prompt") if isinstance(found, dict) else found
    if not isinstance(prompt, str):
        raise LifelongError(
            "no prompt in this line", where=where, fix='Write a string, or an object such as {"prompt": "TEXT"}.'
        )
    return prompt
