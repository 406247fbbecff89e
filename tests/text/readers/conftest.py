"""Real files of every kind, made from a few words; and reading one file with its problems collected."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifelong.text import DataSource, Document
from lifelong.text.document import BadInput
from lifelong.text.readers import list_files, read_file

Read = Callable[..., tuple[list[Document], list[BadInput]]]

_PROSE = "A lighthouse keeps ships off the rocks. Its lamp was once oil, then gas, and is now electric. "
_CHATS = [
    {"messages": [{"role": "user", "content": f"What is {n} + {n}?"}, {"role": "assistant", "content": f"{2 * n}"}]}
    for n in range(4)
]


def read(path: Path, **options: Any) -> tuple[list[Document], list[BadInput]]:
    """Read one file; return its documents and its problems."""
    problems: list[BadInput] = []
    (file,) = list_files(DataSource(path, **options)).files
    documents = list(read_file(file, problems.append))
    assert documents or problems or file.notes, "nothing was read, and nothing said about it"
    return documents, problems


@pytest.fixture(name="read", scope="session")
def _read() -> Read:
    return read


def pdf(*lines: str) -> bytes:
    """Return a PDF of one page, as small as the format allows."""
    shown = "".join(f"({line}) Tj T* " for line in lines)
    content = f"BT /F 12 Tf 14 TL 40 700 Td {shown}ET".encode("latin-1")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Title (On Lighthouses) /Author (A. Keeper) >>",
    ]
    out, places = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, io.SEEK_END)
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer << /Size %d /Root 1 0 R /Info 5 0 R >>\n" % (len(objects) + 1))
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def _samples() -> dict[str, bytes]:
    lines = "".join(json.dumps(row) + "\n" for row in _CHATS).encode()
    roam = "title:: Lamps\n- A [[Lamp]] on a #[[high tower]]\n    - {{[[TODO]]}} oil it\n    - see ((block-id1))\n"
    roam += "- the block\n  id:: block-id1\n"
    notebook = {"nbformat": 4, "metadata": {"language_info": {"name": "python"}}, "cells": []}
    notebook["cells"] = [
        {"cell_type": "markdown", "source": ["# Lamps\n", _PROSE]},
        {"cell_type": "code", "source": "lamp = 1\nprint(lamp)", "outputs": [{"text": "1"}]},
    ]
    article = f"<article><h1>Lamps</h1><p>{_PROSE * 4}</p></article>"
    page = f"<html><head><title>Lamps</title></head><body>{article}</body></html>"
    table = "question,answer\n" + "".join(f'"What, then, is {n}?","It is\n{n}"\n' for n in range(4))
    return {
        "prose.txt": (_PROSE * 20 + "\n\n").encode() * 3,
        "page.md": ("---\ntitle: Lamps\ntags: [a, b]\n---\n# Lamps\n\n```sh\nls\n```\n\n" + _PROSE).encode(),
        "code.py": Path(__file__).read_bytes(),
        "tree.roam": roam.encode(),
        "talk.primer": b"user: hi\nbot: ho\n\n<dialogue>\n\nuser: and?\n\n<dialogue>\n\n\n\n<dialogue>\n\nuser: bye\n",
        "chat.jsonl": lines,
        "chat.json": json.dumps(_CHATS, indent=1).encode(),
        "qa.json": json.dumps([{"question": "é?", "answer": "\u2028", "context": "c", "id": 1.5}] * 3).encode(),
        "share.jsonl": b'{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}\n' * 3,
        "alpaca.json": json.dumps([{"instruction": "Add.", "input": "1 2", "output": "3"}] * 2).encode(),
        "table.csv": table.encode(),
        "table.tsv": b"title\tcontent\nLamps\tThey shine.\nRocks\tThey do not.\n",
        "rows.parquet": parquet([{"text": _PROSE, "n": n} for n in range(4)]),
        "chats.parquet": parquet(_CHATS),
        "page.html": page.encode(),
        "page.pdf": pdf("On lighthouses", "They shine at night."),
        "book.ipynb": json.dumps(notebook).encode(),
        "prose.txt.gz": gzip.compress((_PROSE * 9).encode(), mtime=0),
        "chat.jsonl.zst": zstd(lines),
        "squad.json": json.dumps(
            {"data": [{"title": "L", "paragraphs": [{"context": _PROSE, "qas": [
                {"question": "What?", "id": "1", "answers": [{"text": "A lighthouse", "answer_start": 0}]},
                {"question": "Why?", "id": "2", "answers": []}]}]}]}
        ).encode(),
        "sources.yaml": b"- docs/:markdown@2.0\n- {path: qa.json, kind: json, format: qa, weight: 0.5}\n",
    }  # fmt: skip


@pytest.fixture(scope="session")
def sample() -> Callable[[str], bytes]:
    """Return a small real file of any kind, by name."""
    return _samples().__getitem__


def options_of(name: str) -> dict[str, Any]:
    """Return what a source needs beside the name, where the suffix does not say it."""
    kind = {".roam": "roam", ".primer": "primer"}.get(Path(name).suffix)
    return {"kind": kind} if kind else {}


@pytest.fixture(scope="session")
def read_sample() -> Read:
    """Read a file as the kind that its name says."""
    return lambda path: read(path, **options_of(path.name))
