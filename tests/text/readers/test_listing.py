"""Which files a source stands for: folders with links, archives and hidden things; lists of sources; specs."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.text import DataSource, load_sources, read_sources
from lifelong.text.document import BadInput
from lifelong.text.readers import list_files


def _names(path: Path, **options: object) -> list[str]:
    return [file.name for file in list_files(DataSource(path, **options)).files]  # type: ignore[arg-type]


def test_links_out_of_the_tree_are_passed_over_and_counted(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (tree / "a.txt").write_text("words")
    (tree / "in.txt").symlink_to(tree / "a.txt")
    (tree / "out.txt").symlink_to(outside / "secret.txt")
    (tree / "gone.txt").symlink_to(outside / "nothing.txt")
    (tree / "sub" / "up").symlink_to(tree)
    os.mkfifo(tree / "pipe.txt")
    listing = list_files(DataSource(tree))
    assert [file.name for file in listing.files] == ["a.txt", "in.txt"]
    assert listing.skipped == {"link out of the folder": 1, "not a regular file": 2, "linked folder": 1}
    assert [file.name for file in list_files(DataSource(f"{tree}/*.txt")).files] == ["a.txt", "in.txt"]
    with pytest.raises(LifelongError, match="not a regular file"):
        list_files(DataSource(tree / "pipe.txt"))


def test_archives_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../evil.txt", "words")
    (tmp_path / "b.tar.gz").write_bytes(b"x")
    (tmp_path / "c.txt").write_text("words")
    listing = list_files(DataSource(tmp_path))
    assert listing.skipped == {"archive (.zip): unpack it first": 1, "archive (.tar.gz): unpack it first": 1}
    with pytest.raises(BadInput, match="Unpack it") as caught:
        list_files(DataSource(tmp_path / "a.zip"))
    assert caught.value.rule == "archive"


def test_a_tree_deeper_than_calls_may_be(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1050):
            os.mkdir("d", dir_fd=here)
            deeper = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        with os.fdopen(os.open("a.txt", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as handle:
            handle.write("words")
    finally:
        os.close(here)
    try:
        assert [name.count("/") for name in _names(tmp_path)] == [1050]
    finally:  # pytest would clean up by recursion
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_kind_takes_the_files_it_fits(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "c.jsonl", "d.csv", "e.csv.gz", "f.py"):
        (tmp_path / name).write_text("words")
    (tmp_path / "g.pdf").write_bytes(b"%PDF")
    assert _names(tmp_path, kind="roam") == ["a.md", "b.txt"]
    assert _names(tmp_path, kind="csv") == ["d.csv", "e.csv.gz"]
    assert _names(tmp_path, kind="qa") == ["c.jsonl", "d.csv", "e.csv.gz"]
    assert _names(tmp_path, kind="csv", format="qa") == ["d.csv", "e.csv.gz"]
    assert "g.pdf" not in _names(tmp_path, kind="markdown")
    assert len(_names(tmp_path)) == 7


@pytest.mark.parametrize(
    ("spec", "path", "kind", "weight"),
    [
        ("hf:fineweb-edu", "hf:fineweb-edu", None, 1.0),
        ("hf:org/name:config-1@0.5", "hf:org/name:config-1", None, 0.5),
        ("hf:org/name:main:qa@2", "hf:org/name:main", "qa", 2.0),
        ("hf:org/name:doc", "hf:org/name", "documents", 1.0),
        ("x.json:doc", "x.json", "documents", 1.0),
    ],
)
def test_specs(spec: str, path: str, kind: str | None, weight: float) -> None:
    source = DataSource.parse(spec)
    assert (str(source.path), source.kind, source.weight) == (path, kind, weight)


def test_kind_and_format() -> None:
    source = DataSource("qa.json", "json", format="qa")
    assert (source.container, source.row_format) == ("json", "qa")
    source = DataSource("qa.json", "qa", format="json")
    assert (source.container, source.row_format) == ("json", "qa")
    assert DataSource("x", format="markdown").container == "markdown"
    for kind, other in (("markdown", "qa"), ("qa", "chat"), ("json", "csv")):
        with pytest.raises(LifelongError, match="contradict"):
            DataSource("x", kind, format=other)
    with pytest.raises(LifelongError, match="unknown encoding 'utf-88'"):
        DataSource("x", encoding="utf-88")
    for bad in ("rot13", "hex", ""):
        with pytest.raises(LifelongError, match="encoding"):
            DataSource("x", encoding=bad)
    with pytest.raises(LifelongError, match="delimiter is empty"):
        DataSource("x", delimiter="")
    with pytest.raises(LifelongError, match="max_bytes"):
        DataSource("x", max_bytes=0)
    with pytest.raises(LifelongError, match="no such user"):
        DataSource("~nobody-of-that-name/x")


def test_a_list_of_sources(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n")
    (tmp_path / "qa.json").write_text('[{"question": "Why?", "answer": "So."}]')
    (tmp_path / "p.txt").write_text("a\n==\nb")
    listed = tmp_path / "sources.yaml"
    listed.write_text(
        "- docs/:markdown@2.0\n- path: qa.json\n  kind: json\n  format: qa\n  weight: 0.5\n"
        '- {path: p.txt, kind: primer, delimiter: "\\n==\\n"}\n- hf:dolly-15k@3\n'
    )
    sources = load_sources(listed)
    assert [(str(s.path), s.kind, s.format, s.weight) for s in sources] == [
        (f"{tmp_path}/docs/", "markdown", None, 2.0),
        (f"{tmp_path}/qa.json", "json", "qa", 0.5),
        (f"{tmp_path}/p.txt", "primer", None, 1.0),
        ("hf:dolly-15k", None, None, 3.0),
    ]
    listed.write_text("- docs/\n- qa.json:qa\n")
    assert [document.name for document in read_sources([str(listed)])] == ["a.md", "qa.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {path: a, wieght: 2}", "unknown key 'wieght'. Did you mean 'weight'"),
        ("- {kind: text}", "no 'path'"),
        ("- {path: a, weight: heavy}", "not a positive number"),
        ("- {path: a, weight: [1]}", "must be a number"),
        ("- {path: a, kind: 3}", "'kind' must be a string"),
        ("- 3", "a string or a mapping"),
        ("a: b", "not a list"),
        ("- [", "not valid YAML"),
    ],
)
def test_a_bad_list_of_sources(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(LifelongError, match=message) as caught:
        load_sources(tmp_path / "s.yaml")
    assert str(tmp_path) in str(caught.value.where) or caught.value.where == "a"


def test_yaml_that_is_no_list_is_text(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text("lamp: on\n")
    assert [document.text for document in read_sources([tmp_path / "conf.yaml"])] == ["lamp: on\n"]
