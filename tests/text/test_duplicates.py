"""Near duplicates: found where they are, and only there."""

from __future__ import annotations

import inspect
import json
import random
import shutil
import textwrap

import pytest

from lifelong.text.duplicates import NearDuplicates


def _edited(text: str, share: float) -> str:
    random_ = random.Random(0)
    words = text.split(" ")
    return " ".join(random_.choice(words) if random_.random() < share else word for word in words)


@pytest.fixture(scope="module")
def functions() -> dict[str, str]:
    """Functions of the standard library: real text of which each piece is another."""
    found = {}
    for module in (json.decoder, json.encoder, shutil, textwrap, inspect, random):
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                source = inspect.getsource(value)
                if len(source) > 800:
                    found[f"{module.__name__}.{name}"] = source
    assert len(found) > 40
    return found


def test_edited_copies_are_found_and_nothing_else(functions: dict[str, str]) -> None:
    near = NearDuplicates()
    assert [near.find_or_add(source, name) for name, source in functions.items()] == [None] * len(functions)
    found = {name: near.find_or_add(_edited(source, 0.04), "copy") for name, source in functions.items()}
    assert sum(found[name] == name for name in functions) >= 0.9 * len(functions)
    assert {twin for name, twin in found.items() if twin != name} <= {None, "copy"}
    rewritten = _edited("\n".join(functions.values()), 0.6)
    assert near.find_or_add(rewritten, "rewritten") is None


def test_case_and_white_space_do_not_count(functions: dict[str, str]) -> None:
    near = NearDuplicates()
    source = next(iter(functions.values()))
    near.find_or_add(source, "first")
    assert near.find_or_add(source.upper().replace(" ", "   "), "second") == "first"


def test_a_short_text_has_none() -> None:
    near = NearDuplicates()
    assert near.find_or_add("What is 2 + 3?", "a") is None
    assert near.find_or_add("What is 2 + 4?", "b") is None
    assert near.keys == []
