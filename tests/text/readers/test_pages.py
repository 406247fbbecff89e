"""Pages, PDF files and notebooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifelong.text import DataSource
from lifelong.text.readers import list_files, read_file

Read = Callable[..., Any]


def test_a_page_without_its_menu(tmp_path: Path, read: Read) -> None:
    text = "A lighthouse keeps ships off the rocks, and its lamp was once lit with oil by a keeper. "
    page = f"""<!doctype html><html lang="en"><head><meta charset="iso-8859-1"><title>Lamps à part</title>
    <meta name="author" content="Ann Keeper"></head><body>
    <nav><ul><li><a href="/">Home</a></li><li><a href="/x">Shop</a></li></ul></nav>
    <article><h1>Lamps</h1><p>{text * 3}</p><h2>Oil</h2><p>Crème brûlée. {text * 2}</p><pre><code>light --on
    now</code></pre></article><footer>Copyright nobody</footer></body></html>"""
    (tmp_path / "a.html").write_text(page, encoding="latin-1")
    (document,), problems = read(tmp_path / "a.html")
    assert not problems
    assert "Crème brûlée." in document.text
    assert "## Oil" in document.text
    assert "light --on" in document.text
    assert "Shop" not in document.text
    assert (document.kind, document.meta["title"], document.meta["author"]) == (
        "markdown",
        "Lamps",
        "Ann Keeper",
    )
    (tmp_path / "b.html").write_text("<html><body><script>made()</script></body></html>")
    assert [problem.rule for problem in read(tmp_path / "b.html")[1]] == ["no-text"]


def test_a_pdf(sample: Callable[[str], bytes], tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.pdf").write_bytes(sample("page.pdf"))
    (document,), problems = read(tmp_path / "a.pdf")
    assert not problems
    assert document.text.split("\n") == ["On lighthouses", "They shine at night."]
    assert document.meta == {"title": "On Lighthouses", "author": "A. Keeper", "pages": 1}
    (tmp_path / "b.pdf").write_bytes(sample("page.pdf").replace(b"Tj", b"xx"))
    assert [problem.rule for problem in read(tmp_path / "b.pdf")[1]] == ["no-text"]
    (tmp_path / "c.pdf").write_bytes(b"not at all")
    assert [problem.rule for problem in read(tmp_path / "c.pdf")[1]] == ["bad-file"]


def test_a_notebook(tmp_path: Path, read: Read) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": "x = '''\n```\n'''", "outputs": [{"data": 1}]},
        {"cell_type": "code", "source": " "},
        {"cell_type": "raw", "source": "as it is"},
    ]
    book = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "a.ipynb").write_text(json.dumps(book))
    listing = list_files(DataSource(tmp_path))
    (document,) = read_file(listing.files[0])
    assert document.text == "# Title\nwords\n\n````python\nx = '''\n```\n'''\n````\n\nas it is\n"
    assert (document.kind, document.meta) == ("markdown", {"language": "python"})
    assert listing.files[0].notes == {"outputs of notebook cells left out": 1}
    (tmp_path / "b.ipynb").write_text(json.dumps({"worksheets": [], "nbformat": 3}))
    assert [problem.rule for problem in read(tmp_path / "b.ipynb")[1]] == ["missing-key"]
