"""What many tests do: type a command, read what it says, and look at what it left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lifelong.cli.app import main

if TYPE_CHECKING:
    from lifelong.learn.session import LessonResult


def words(*arguments: object) -> list[str]:
    """Return arguments as they would be typed."""
    return [str(argument) for argument in arguments]


def done(*arguments: object) -> None:
    """Run a command that works."""
    assert main(words(*arguments)) == 0


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Run a command that works, and return what it says with ``--json``."""
    capsys.readouterr()
    done(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that ends with exit code 2 and no traceback, and return what it says."""
    capsys.readouterr()
    assert main(words(*arguments)) == 2
    found = capsys.readouterr().err
    assert "Traceback" not in found
    return found


def visible(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a directory, but for the store's own and the history, which always grows."""
    own = ("lifelong/objects", "lifelong/generations", "lifelong/HEAD", "lifelong/MIRROR", "lifelong/history", "runs/")
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not (name := path.relative_to(root).as_posix()).startswith(own)
    }


def lost(result: LessonResult, domain: str) -> float:
    """Return the bits per byte that a domain's test slice lost in the last lesson."""
    before, after = (row[result.matrix.domains.index(domain)] for row in result.matrix.bpb[-2:])
    assert before is not None and after is not None
    return after - before
