"""Whatever stands in a file, reading gives documents or problems with a place; never another exception."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.text import load_sources
from lifelong.text.readers import RULES

NAMES = [
    "prose.txt", "page.md", "code.py", "tree.roam", "talk.primer", "chat.jsonl", "chat.json", "qa.json", "share.jsonl",
    "alpaca.json", "table.csv", "table.tsv", "rows.parquet", "chats.parquet", "page.html", "page.pdf", "book.ipynb",
    "prose.txt.gz", "chat.jsonl.zst", "squad.json",
]  # fmt: skip

# Bytes that mean something to one reader or another.
_SPICE = [b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b"\n\n", b'"', b"\\", b"\\ud800", b"{", b"}",
          b"[", b"]", b",", b":", b"NaN", b"1e999", b"-", b"---\n", b"<", b">", b"&#0;", b"((", b"))", b"[[", b"endobj",
          b"null", b"true", b"9" * 5000, b"[" * 300, b"\xe2\x80\xa8", b" " * 100, b"%PDF", b"<dialogue>"]  # fmt: skip
_Change = tuple[float, int, bytes]
_CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(st.sampled_from(_SPICE), st.binary(max_size=12))),
    min_size=1,
    max_size=6,
)


def _mutate(data: bytes, changes: list[_Change]) -> bytes:
    """Put other bytes in the place of some."""
    for place, length, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + length :]
    return data


def _check(path: Path, read_sample: Callable[..., Any]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pypdf's, of what it mends
            documents, problems = read_sample(path)
    except LifelongError as refused:  # from the listing: an empty file
        assert refused.where
        return
    for document in documents:
        json.dumps(document.row(), allow_nan=False, ensure_ascii=False).encode("utf-8")
        # A row may say nothing: `validate` tells, and `prepare` drops and counts it. A file that does has no document.
        assert document.text or document.line is not None
    for problem in problems:
        assert problem.rule in RULES
        assert problem.where is not None
        assert problem.where.startswith(str(path))
        str(problem).encode("utf-8", "backslashreplace")


def _fuzz(count: int) -> Callable[..., Any]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=checks, derandomize=count < 100)


def _run(
    name: str, changes: list[_Change], sample: Callable[[str], bytes], folder: Path, read: Callable[..., Any]
) -> None:
    path = folder / name
    path.write_bytes(_mutate(sample(name), changes))
    _check(path, read)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_themselves_are_read(
    name: str, sample: Callable[[str], bytes], tmp_path: Path, read_sample: Callable[..., Any]
) -> None:
    (tmp_path / name).write_bytes(sample(name))
    documents, problems = read_sample(tmp_path / name)
    assert documents
    assert not problems


@pytest.mark.parametrize("name", NAMES)
@_fuzz(50)
@given(changes=_CHANGES)
def test_changed_files(
    name: str, changes: list[_Change], sample: Callable[[str], bytes], tmp_path: Path, read_sample: Callable[..., Any]
) -> None:
    _run(name, changes, sample, tmp_path, read_sample)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@_fuzz(1000)
@given(changes=_CHANGES)
def test_changed_files_at_length(
    name: str, changes: list[_Change], sample: Callable[[str], bytes], tmp_path: Path, read_sample: Callable[..., Any]
) -> None:
    _run(name, changes, sample, tmp_path, read_sample)


@_fuzz(50)
@given(changes=_CHANGES)
def test_changed_lists_of_sources(changes: list[_Change], sample: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_bytes(_mutate(sample("sources.yaml"), changes))
    try:
        assert load_sources(path)
    except LifelongError as refused:
        assert refused.where


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["user", "assistant"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from("messages role content text title question answer conversations from value prompt "
                            "completion instruction output data paragraphs qas answers split cells source".split()),
            inner, max_size=5),
    ),
    max_leaves=12,
)  # fmt: skip


@_fuzz(99)
@given(rows=st.lists(_JSON, min_size=1, max_size=4))
def test_rows_of_any_shape(rows: list[Any], tmp_path: Path, read_sample: Callable[..., Any]) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _check(tmp_path / "rows.jsonl", read_sample)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    _check(tmp_path / "rows.json", read_sample)
    (tmp_path / "rows.ipynb").write_text(json.dumps(rows[0]))
    _check(tmp_path / "rows.ipynb", read_sample)


# Texts on which a careless pattern or parser takes the square of their length, or all of the stack.
_TIRING = {
    "blank.txt": "a" + "\n" * 2_000_000 + "b",
    "spaced.py": "a" + " \n" * 1_000_000 + " b",
    "front.md": "---\n" + "- " * 30_000 + "\n---\n",
    "dashes.md": "---\n" + "--- x\n" * 10_000,
    "brackets.roam": "- " + "[" * 300_000,
    "links.roam": "- " + "[a]([[" * 50_000,
    "braces.roam": "- " + "{{" * 100_000 + " " * 100_000,
    "references.roam": "- a\n  id:: aaaaaa\n" + "- " + "((aaaaaa))" * 20_000,
    "growing.roam": "".join(f"- ((aaaaa{n + 1}))((aaaaa{n + 1}))\n  id:: aaaaa{n}\n" for n in range(9)),
    "bursting.roam": "".join("- " + f"((aaaaa{n + 1}))" * 3000 + f"\n  id:: aaaaa{n}\n" for n in range(4)),
    "lines.primer": "\n\n<dialogue>\n" * 100_000,
    "deep.json": "[" * 1_000_000,
    "deep.ipynb": '{"cells":' * 100_000,
    "quotes.json": '["' + '\\"' * 500_000,
    "commas.csv": "text\n" + "," * 2_000_000,
    "quotes.csv": "text\n" + '"' * 1_000_001,
    "deep.html": "<div>" * 50_000 + "words",
    "open.html": "<" * 200_000,
}


@pytest.mark.parametrize("name", _TIRING)
def test_tiring_texts_are_read_in_bounded_time(name: str, tmp_path: Path, read_sample: Callable[..., Any]) -> None:
    (tmp_path / name).write_text(_TIRING[name])
    began = time.process_time()
    _check(tmp_path / name, read_sample)
    assert time.process_time() - began < 10
