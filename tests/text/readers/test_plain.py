"""Text, Markdown and code: encodings, compression, front matter, and the pieces of long texts."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lifelong.text import DataSource, Document
from lifelong.text.cutting import cut
from lifelong.text.readers import list_files, read_file
from lifelong.text.readers.plain import PIECE, front_matter, pieces

Read = Callable[..., Any]


def _chunks(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


@given(
    st.lists(st.sampled_from(["word ", "\n", "\n\n", " \n", "\r\n", "  x", "ü", "line\n" * 300]), max_size=60),
    st.integers(1, 5000),
    st.booleans(),
)
def test_pieces_join_to_the_text_however_it_comes(parts: list[str], size: int, code: bool) -> None:
    text = "".join(parts)
    cut_up = list(pieces(_chunks(text, size), code=code))
    assert "".join(cut_up) == text
    assert all(cut_up)
    for piece in cut_up[:-1]:
        assert len(piece.encode()) >= PIECE
        assert piece.rstrip(" \t").endswith("\n")
    assert cut_up == list(pieces(iter([text]), code=code))


@pytest.mark.parametrize("kind", ["text", "code"])
def test_pieces_are_those_of_the_other_cutter(kind: str) -> None:
    text = "".join(
        f"Paragraph {n} of many.\nIts second line.\n{'' if n % 3 else '  indented'}\n\n" for n in range(3000)
    )
    ours = list(pieces(_chunks(text, 1000), code=kind == "code"))
    assert ours == [piece.text for piece in cut(Document(text, "a", "a", kind))]


def test_a_long_file_comes_in_pieces_and_a_single_line_is_torn_at_white_space(tmp_path: Path, read: Read) -> None:
    text = "word " * 300_000
    (tmp_path / "a.txt").write_text(text)
    documents, _ = read(tmp_path / "a.txt")
    assert "".join(document.text for document in documents) == text
    assert [document.name for document in documents[:2]] == ["a.txt#0001", "a.txt#0002"]
    assert all(document.text.endswith(" ") for document in documents)
    (tmp_path / "b.txt").write_text("ß" * 1_200_000)
    documents, _ = read(tmp_path / "b.txt")
    assert len(documents) > 10
    assert "".join(document.text for document in documents) == "ß" * 1_200_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lines", "one line", "rows", "array", "csv"])
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    suffix = {"rows": ".jsonl", "array": ".json", "csv": ".csv"}.get(kind, ".txt")
    path = tmp_path / f"a{suffix}"
    row = json.dumps({"text": "word " * 400})
    blocks = {
        "lines": ("", ("line " * 20 + "\n") * 30 + "\n", ""),
        "one line": ("", "word " * 500, ""),
        "rows": ("", row + "\n", ""),
        "array": ("[" + row, ",\n" + row, "]"),
        "csv": ("text\n", '"' + ("word " * 50 + "\n") * 8 + '"\n', ""),
    }
    first, block, last = blocks[kind]
    size = 0
    with path.open("w") as handle:
        size += handle.write(first)
        while size < 110_000_000:
            size += handle.write(block * 200)
        handle.write(last)
    (file,) = list_files(DataSource(path)).files
    read = 0
    tracemalloc.start()
    for document in read_file(file):
        read += len(document.text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read > 0.9 * size
    assert peak < 16_000_000


def test_front_matter_is_kept_beside_the_text(tmp_path: Path, read: Read) -> None:
    facts = {
        "title": "Lamps: a study",
        "tags": ["a", "b"],
        "date": "2024-01-02",
        "draft": True,
        "n": 3,
        "deep": {"x": 1},
    }
    body = "# Lamps\n\n---\n\nThey shine.\n"
    (tmp_path / "a.md").write_text(f"\ufeff---\r\n{yaml.safe_dump(facts)}---\r\n{body}")
    (document,), _ = read(tmp_path / "a.md")
    assert (document.text, document.meta, document.kind) == (body, facts, "markdown")
    (tmp_path / "b.md").write_text("+++\ntitle = 'Rocks'\nday = 2024-01-02\n+++\nBody")
    (document,), _ = read(tmp_path / "b.md")
    assert (document.text, document.meta) == ("Body", {"title": "Rocks", "day": "2024-01-02"})


@pytest.mark.parametrize(
    "text",
    [
        "---\nno mapping\n---\nBody",
        "---\n- a\n- b\n---\nBody",
        "---\na: [\n---\nBody",
        "---\nnever closed: true\nBody",
        "---\nd: 2024-99-99\n---\nBody",
        "---\na: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\n---\nBody",
        '---\na: "\\ud800"\n---\nBody',
        "---\n- - -\nBody",
        "+++\na = \n+++\nBody",
    ],
)
def test_what_is_no_front_matter_stays_text(text: str) -> None:
    assert front_matter(text) == (text, {})


@given(st.text(max_size=200))
def test_front_matter_of_anything(text: str) -> None:
    for mark in ("---", "+++"):
        given_text = f"{mark}\n{text}\n{mark}\nBody"
        body, facts = front_matter(given_text)
        assert given_text.endswith(body)
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()


def test_other_encodings_are_read_when_they_are_named(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Grüße\nund mehr\n", encoding="cp1252")
    documents, (problem,) = read(path)
    assert documents == []
    assert (problem.rule, problem.where) == ("not-utf8", f"{path}:1")
    assert "encoding" in str(problem)
    assert read(path, encoding="cp1252")[0][0].text == "Grüße\nund mehr\n"
    path.write_text("Grüße\r\nund mehr\n", encoding="utf-16", newline="")
    assert read(path)[1][0].rule == "not-utf8"
    assert read(path, encoding="utf-16")[0][0].text == "Grüße\r\nund mehr\n"
    path.write_bytes("one\ntwo\n".encode("shift_jis") + b"\xff\xff\n")
    _, (problem,) = read(path, encoding="shift_jis")
    assert (problem.rule, problem.where) == ("not-utf8", f"{path}:3")


def test_a_bad_byte_far_inside_names_its_line(tmp_path: Path, read: Read) -> None:
    lines = [b"a line of text\n"] * 100_000
    lines[77_777] = b"bad \xe9 line\n"
    (tmp_path / "a.txt").write_bytes(b"".join(lines))
    _, problems = read(tmp_path / "a.txt")
    assert [problem.where for problem in problems] == [f"{tmp_path}/a.txt:77778"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files(suffix: str, tmp_path: Path, read: Read) -> None:
    import zstandard

    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix]
    (tmp_path / f"a.md{suffix}").write_bytes(pack(b"---\na: 1\n---\n# One\n") + pack(b"two\n"))
    (tmp_path / f"b.jsonl{suffix}").write_bytes(pack(b'{"text": "one"}\n{"text": "two"}\n'))
    (document,), _ = read(tmp_path / f"a.md{suffix}")
    assert (document.text, document.kind, document.meta) == ("# One\ntwo\n", "markdown", {"a": 1})
    assert [d.text for d in read(tmp_path / f"b.jsonl{suffix}")[0]] == ["one", "two"]
    whole = pack(b"many words " * 10_000)
    for damaged in (whole[:-5], whole[:40] + b"\x00" * 9 + whole[49:], b"plain text"):
        (tmp_path / f"c.txt{suffix}").write_bytes(damaged)
        documents, (problem,) = read(tmp_path / f"c.txt{suffix}")
        assert documents == []
        assert problem.rule in ("bad-compression", "binary", "not-utf8")
    (tmp_path / f"d.txt{suffix}").write_bytes(pack(b""))
    assert read(tmp_path / f"d.txt{suffix}") == ([], [])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_refused(suffix: str, tmp_path: Path, read: Read) -> None:
    import zlib

    import zstandard

    path = tmp_path / f"bomb.txt{suffix}"
    packer: Any = zlib.compressobj(9, wbits=31) if suffix == ".gz" else zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as handle:
        for _ in range(40):
            handle.write(packer.compress(b" " * (1 << 20)))
        handle.write(packer.flush())
    _, problems = read(path)
    assert [problem.rule for problem in problems] == ["too-compressed"]


def test_a_budget_ends_a_source(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("x" * 100)
    listing = list_files(DataSource(tmp_path, max_bytes=150))
    for _ in range(2):
        assert [d.name for file in listing.files for d in read_file(file)] == ["a.txt", "b.txt"]
