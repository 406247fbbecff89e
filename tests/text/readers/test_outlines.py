"""Roam trees and primers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifelong.text import DataSource
from lifelong.text.readers import list_files, read_file
from lifelong.text.readers.opening import text_chunks

Read = Callable[..., Any]

PAGE = """\
type:: [[Project]]
- A [[Lamp]] on a #[[high tower]], see [the other]([[Rocks]]) and [that](((abc-123456)))
    - {{[[TODO]]}} oil it
    - {{[[DONE]]}} light it
    - status:: [[open]]
      id:: own-id-001
- said elsewhere: ((abc-123456))
- {{embed: ((def-123456))}}
- nowhere: ((zzz-999999))
- a block with an id ^tail-id
    ```py
    keep = "[[as it is]] ((abc-123456))"
    ```
- [[nested [[links]] here]]
"""
OTHER = """\
- The text of a block that [[Others]] point to
  id:: abc-123456
    - It has a child
- One block ((abc-123456)) within another
  id:: def-123456
"""
PLAIN = """\
type: Project
- A Lamp on a #high tower, see the other and that
    - [ ] oil it
    - [x] light it
    - status: open
- said elsewhere: The text of a block that Others point to
- One block The text of a block that Others point to within another
- nowhere: ((zzz-999999))
- a block with an id
    ```py
    keep = "[[as it is]] ((abc-123456))"
    ```
- nested links here
"""


def test_a_roam_tree_stays_an_outline(tmp_path: Path) -> None:
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "Lights.md").write_text(PAGE)
    (tmp_path / "work" / "deep" / "Rocks.md").write_text(OTHER)
    (tmp_path / "work" / "picture.png").write_bytes(b"\0")
    listing = list_files(DataSource(tmp_path, "roam"))
    page, other = (document for file in listing.files for document in read_file(file))
    assert page.text == PLAIN
    assert (page.name, page.kind, page.meta["title"]) == ("work/Lights.md", "markdown", "work/Lights")
    assert page.meta["attributes"] == {"type": "Project", "status": "open"}
    assert {"Lamp", "high tower", "Project", "open", "Rocks", "Others"} <= set(page.meta["links"])
    assert page.meta["unresolved_references"] == 1
    assert listing.files[0].notes == {"block references that lead nowhere": 1}
    assert other.text.startswith("- The text of a block that Others point to\n    - It has a child\n")


def test_blocks_that_hold_one_another_end(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.md").write_text("- see ((bbbbbb))\n  id:: aaaaaa\n- see ((aaaaaa))\n  id:: bbbbbb\n")
    (document,), problems = read(tmp_path / "a.md", kind="roam")
    assert not problems
    assert len(document.text) < 200


def test_a_primer(tmp_path: Path) -> None:
    path = tmp_path / "primer.txt"
    text = "user: hi\nbot: ho\n\n<dialogue>\n\nuser: and?\n\n<dialogue>\n\n\n\n<dialogue>\n\n<dialogue>\n\n"
    text += "user: bye <dialogue>\n"
    path.write_text(text)
    listing = list_files(DataSource(path, "primer"))
    documents = list(read_file(listing.files[0]))
    assert [(document.text, document.line) for document in documents] == [
        ("user: hi\nbot: ho\n", 1),
        ("user: and?\n", 6),
        ("user: bye <dialogue>\n", 16),
    ]
    assert listing.files[0].notes == {"empty blocks dropped": 2}
    path.write_text(text.replace("\n", "\r\n"), newline="")
    assert [(d.text, d.line) for d in read_file(list_files(DataSource(path, "primer")).files[0])] == [
        (d.text, d.line) for d in documents
    ]
    path.write_text("<dialogue>\n\na\n\n<dialogue>")
    listing = list_files(DataSource(path, "primer"))
    assert [(d.text, d.line) for d in read_file(listing.files[0])] == [("a\n", 3)]
    assert not +listing.files[0].notes


def test_another_delimiter(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.txt").write_text("one\n\nmore\n%%\ntwo\n%%\n")
    assert [d.text for d in read(tmp_path / "a.txt", kind="primer", delimiter="\n%%\n")[0]] == [
        "one\n\nmore\n",
        "two\n",
    ]
    (tmp_path / "a.txt").write_text("one\n\n\ntwo")
    assert [d.text for d in read(tmp_path / "a.txt", kind="primer", delimiter="\n\n\n")[0]] == ["one\n", "two\n"]
    (tmp_path / "a.txt").write_text(" \n\n<dialogue>\n\n\n")
    assert read(tmp_path / "a.txt", kind="primer") == ([], [])


_BLOCK = st.text(alphabet="ab<>dialogue \né", max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(blocks=st.lists(_BLOCK, min_size=1, max_size=8), size=st.sampled_from([0, 300_000]))
def test_dialogues_are_what_stands_between_delimiters(blocks: list[str], size: int, tmp_path: Path, read: Read) -> None:
    blocks = [block.strip("\n").replace("<dialogue>", "") for block in blocks] + ["x" * size + "end"]
    path = tmp_path / "a.txt"
    path.write_text("\n\n<dialogue>\n\n".join(blocks), encoding="utf-8")
    documents, _ = read(path, kind="primer")
    assert [document.text for document in documents] == [block + "\n" for block in blocks if block.strip()]
    lines = "".join(text_chunks(list_files(DataSource(path)).files[0])).split("\n")
    for document in documents:
        assert document.line is not None
        assert lines[document.line - 1] == document.text.split("\n")[0]
