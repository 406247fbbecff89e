"""Preparing: megabytes a second of each stage, and the memory of the whole, on a folder repeated with edits.

The files of ``--data`` are copied, each time with 30% of the words of every line exchanged, until ``--megabytes`` are
there: so much that copies are no near duplicates of each other, and the work is that of fresh text. Each stage runs in
a process of its own, and contains those above it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import machine, print_table, write_json


def grow(data: list[Path], out: Path, megabytes: float) -> float:
    """Write edited copies of the files until there are enough; return the megabytes written."""
    from lifelong.text import DataSource
    from lifelong.text.readers import list_files

    random_ = random.Random(0)
    files = [file for folder in data for file in list_files(DataSource(folder)).files]
    written, round_ = 0, 0
    while written < megabytes * 1e6:
        for number, file in enumerate(files):
            text = file.path.read_text(encoding="utf-8")
            if round_ and file.path.suffix not in (".json", ".jsonl"):
                text = "\n".join(_edit(line, random_) for line in text.split("\n"))
            elif round_:  # rows keep their form: words inside are exchanged, signs stay
                text = "\n".join(_edit(line, random_, rows=True) for line in text.split("\n"))
            place = out / f"copy{round_:03d}" / f"{number:05d}{file.path.suffix}"
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")
            written += place.stat().st_size
            if written >= megabytes * 1e6:
                break
        round_ += 1
    return written / 1e6


def _edit(line: str, random_: random.Random, *, rows: bool = False) -> str:
    words = line.split(" ")
    plain = [word for word in words if word.isalpha()]
    if len(plain) < 2:
        return line
    return " ".join(
        random_.choice(plain) if word.isalpha() and random_.random() < 0.3 and not (rows and word in _JSON) else word
        for word in words
    )


_JSON = {"true", "false", "null"}


def read(data: str, work: str) -> None:
    """Read every document."""
    from lifelong.text import read_sources

    for _ in read_sources([data]):
        pass


def clean(data: str, work: str) -> None:
    """Read and clean."""
    from lifelong.text import read_sources
    from lifelong.text.cleaning import clean

    for document in read_sources([data]):
        clean(document)


def exact(data: str, work: str) -> None:
    """Read, clean, drop exact duplicates, split, write."""
    from lifelong.text import prepare

    prepare([data], Path(work) / "out", near_duplicates=None)


def near(data: str, work: str) -> None:
    """The same, and drop near duplicates."""
    from lifelong.text import prepare

    prepare([data], Path(work) / "out")


def whole(data: str, work: str) -> None:
    """Everything `lifelong prepare` does, validation and tokenizer included."""
    from lifelong.settings.prepare import PrepareSettings
    from lifelong.tokens.dataset import prepare_dataset

    prepare_dataset([data], Path(work) / "out", PrepareSettings())


STAGES: dict[str, Callable[[str, str], None]] = {
    "read": read,
    "+ clean": clean,
    "+ exact duplicates, split, write": exact,
    "+ near duplicates": near,
    "+ validation, tokenizer (lifelong prepare)": whole,
}


def _run(stage: str, data: str, work: str, queue: multiprocessing.Queue[tuple[float, float]]) -> None:
    started = time.perf_counter()
    STAGES[stage](data, work)
    queue.put((time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3))


def main() -> None:
    """Grow the data, run the stages, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of text")
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        size = grow(options.data, data, options.megabytes)
        for stage in options.stages:
            with tempfile.TemporaryDirectory() as work:
                queue = spawn.Queue()
                process = spawn.Process(target=_run, args=(stage, str(data), work, queue))
                process.start()
                seconds, memory = queue.get()
                process.join()
            results.append({"stage": stage, "seconds": seconds, "mb_per_second": size / seconds, "peak_mb": memory})
    print_table(
        f"Preparing {size:.0f} MB",
        ["stage", "seconds", "MB/s", "peak memory"],
        [
            [str(r["stage"]), f"{r['seconds']:.1f}", f"{r['mb_per_second']:.1f}", f"{r['peak_mb']:.0f} MB"]
            for r in results
        ],
    )
    write_json(options.json, {"machine": machine(), "megabytes": size, "stages": results})


if __name__ == "__main__":
    main()
