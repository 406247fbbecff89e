"""How fast each kind of text is read: MB of text in a second of one core.

    python benchmarks/reading.py [--mb 20] [--json FILE]

The text is the sources of Python's own library, written in every form; a reader's peak of memory is measured in a
second pass, since measuring slows it down.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

from common import library_corpus, machine, print_table, write_json

from lifelong.text import DataSource
from lifelong.text.readers import list_files, read_file

_TIMES = 3


def main() -> None:
    """Measure every form, print a table and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mb", type=float, default=20, help="text in each form, in MB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        texts = _texts(Path(folder), int(options.mb * 1e6))
        for name, (kind, data) in _forms(texts).items():
            path = Path(folder) / name
            path.write_bytes(data())
            rows.append({"form": f"{name} ({kind})" if kind else name, **_measure(path, kind)})
            path.unlink()
    print_table(
        "Reading, one core",
        ["form", "file MB", "text MB", "documents", "MB/s", "peak MB"],
        [
            [
                r["form"],
                f"{r['file_mb']:.1f}",
                f"{r['text_mb']:.1f}",
                f"{r['documents']:,}",
                f"{r['mb_per_s']:.0f}",
                f"{r['peak_mb']:.1f}",
            ]
            for r in rows
        ],
        ["MB/s: text in a second of processor time, best of three. Peak: of Python's memory, documents dropped."],
    )
    write_json(options.json, {"machine": machine(), "rows": rows})


def _texts(folder: Path, size: int) -> list[str]:
    """Return pieces of about 2 kB, ``size`` bytes in all."""
    corpus = library_corpus(folder / "copy", size)
    whole = "\n\n".join(document.text for split in ("train", "gate", "test") for document in corpus.split(split))
    whole = (whole * (size // len(whole) + 1))[:size].encode("ascii", "replace").decode()
    return [whole[at : at + 2000] for at in range(0, len(whole), 2000)]


def _forms(texts: list[str]) -> dict[str, tuple[str | None, Callable[[], bytes]]]:
    def lines() -> bytes:
        return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()

    def pairs() -> Iterator[dict[str, str]]:
        return ({"question": text[:300], "answer": text[300:]} for text in texts)

    def chats() -> Iterator[dict[str, object]]:
        for row in pairs():
            yield {
                "messages": [
                    {"role": "user", "content": row["question"]},
                    {"role": "assistant", "content": row["answer"]},
                ]
            }

    def table() -> bytes:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["text", "id"])
        writer.writerows([text, str(number)] for number, text in enumerate(texts))
        return out.getvalue().encode()

    def parquet() -> bytes:
        import pyarrow
        import pyarrow.parquet

        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), out, row_group_size=1000)
        return out.getvalue()

    def zstd() -> bytes:
        import zstandard

        return zstandard.ZstdCompressor().compress(lines())

    def page() -> bytes:
        body = "".join(f"<p>{text.replace('&', '').replace('<', '')}</p>\n" for text in texts[:500])
        return f"<html><body><article>{body}</article></body></html>".encode()

    return {
        "a.txt": (None, lambda: "".join(texts).encode()),
        "a.md": (None, lambda: "".join(texts).encode()),
        "outline.md": ("roam", lambda: "".join(f"- {t} [[Page]]\n" for t in texts).encode()[:60_000_000]),
        "talk.txt": ("primer", lambda: "\n\n<dialogue>\n\n".join(texts).encode()),
        "a.jsonl": (None, lines),
        "a.jsonl.gz": (None, lambda: gzip.compress(lines(), 6)),
        "a.jsonl.zst": (None, zstd),
        "array.json": (None, lambda: json.dumps([{"text": text} for text in texts], indent=1).encode()),
        "qa.jsonl": (None, lambda: "".join(json.dumps(row) + "\n" for row in pairs()).encode()),
        "chat.jsonl": (None, lambda: "".join(json.dumps(row) + "\n" for row in chats()).encode()),
        "a.csv": (None, table),
        "a.parquet": (None, parquet),
        "a.html": (None, page),
    }


def _measure(path: Path, kind: str | None) -> dict[str, float]:
    def read() -> tuple[int, int]:
        (file,) = list_files(DataSource(path, kind)).files
        documents = size = 0
        for document in read_file(file):
            documents, size = documents + 1, size + len(document.text)
        return documents, size

    seconds = []
    for _ in range(_TIMES):
        began = time.process_time()
        documents, size = read()
        seconds.append(time.process_time() - began)
    tracemalloc.start()
    read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    best = min(seconds)
    facts = {"documents": documents, "seconds": best, "mb_per_s": size / 1e6 / best, "peak_mb": peak / 1e6}
    return {"file_mb": path.stat().st_size / 1e6, "text_mb": size / 1e6, **facts}


if __name__ == "__main__":
    main()
