"""What was taught before is left out of a lesson: to the letter, and nearly."""

from __future__ import annotations

import inspect
import json
import random
import shutil
import textwrap
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.learn.known import leave_out_known
from lifelong.text.corpus import Corpus
from lifelong.text.document import Document
from lifelong.train.founding import stage_domain


def document(text: str, name: str = "a.py") -> Document:
    return Document(text, name, name)


def edited(text: str) -> str:
    """The same text with one word in thirty replaced."""
    random_ = random.Random(0)
    words = text.split(" ")
    return " ".join("other" if word and random_.random() < 0.03 else word for word in words)


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """Functions of the standard library: real text of which each piece is another."""
    found = [
        inspect.getsource(value)
        for module in (json.decoder, shutil, textwrap, inspect, random)
        for value in vars(module).values()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    return sorted((source for source in found if len(source) > 1200), key=len)


@pytest.fixture
def root(sources: list[str], tmp_path: Path) -> Path:
    """A model directory's memory of two documents, the second longer than an example, and two held-out ones."""
    taught = [document(sources[0]), document("\n\n".join(sources[-3:]))]
    corpus = Corpus(taught, [document(sources[1])], [document(sources[2])])
    stage_domain(tmp_path, None, corpus, "code", capacity=100)
    return tmp_path


def test_near_duplicates_of_what_is_held_out_or_was_taught_are_left_out_and_counted(
    root: Path, sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = document(sources[3])
    long = document(edited("\n\n".join(sources[-3:])))  # of a text that is remembered in pieces
    corpus = Corpus(
        train=[fresh, document(edited(sources[1])), document(edited(sources[0]))],
        gate=[document(sources[4]), document(edited(sources[0]))],
        test=[document(sources[5]), long, document(sources[0])],
    )
    left = leave_out_known(root, corpus, ["code"])
    # A new version of a text that was taught is a text to be taught.
    assert list(left.train) == [fresh, corpus.train[2]]
    assert list(left.gate) == [corpus.gate[0]] and list(left.test) == [corpus.test[0]]
    err = capsys.readouterr().err
    assert "left out, nearly equal to some in its held-out slices: 1 document of domain 'code'" in err
    assert "left out, held out here, nearly equal to text remembered from training: 2 documents" in err
    assert "left out, held out here, trained on before: 1 document of" in err


def test_nothing_but_near_duplicates_is_nothing_new(root: Path, sources: list[str]) -> None:
    with pytest.raises(LifelongError, match="nothing of this text is new"):
        leave_out_known(root, Corpus(train=[document(edited(sources[1]))]), ["code"])


def test_other_text_stays(root: Path, sources: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    corpus = Corpus(*([document(sources[number])] for number in (3, 4, 5)))
    assert leave_out_known(root, corpus, ["code"]) == corpus
    assert capsys.readouterr().err == ""
