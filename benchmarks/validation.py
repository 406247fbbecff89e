"""How fast `validate` checks text, rule by rule: megabytes of UTF-8 a second, on one core.

    python benchmarks/validation.py --data FOLDER [--data FOLDER] [--json FILE]

Without ``--data`` it checks Python's own documentation and source.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import machine, print_table, write_json

from lifelong.text import Document, read_sources, write_python_corpora
from lifelong.text.validation import Checker
from lifelong.text.validation.language import Languages
from lifelong.text.validation.quality import garbled, open_fence, prose_of, prose_problems
from lifelong.text.validation.repeats import Repeats
from lifelong.text.validation.report import Findings
from lifelong.text.validation.secrets import find_secrets

ROUNDS = 3
See = Callable[[Document], object]


def prose(document: Document) -> None:
    """Judge what is prose."""
    for _ in prose_problems(prose_of(document.text)):
        pass


def secrets(document: Document) -> None:
    """Find all secrets."""
    for _ in find_secrets(document.text):
        pass


def repeats(near: bool) -> See:
    """Return what looks for duplicates."""
    memory, findings = Repeats(near=near), Findings()
    return lambda document: memory.see(document, "", document.place, lambda: "", findings)


def languages() -> See:
    """Return what guesses the language of the first 200 documents."""
    guesser = Languages(200)
    return lambda document: guesser.see(document, "")


def whole() -> See:
    """Return everything that `validate` does without a tokenizer."""
    return Checker().see


STAGES: dict[str, Callable[[], See]] = {
    "everything": whole,
    "secrets and personal data": lambda: secrets,
    "repetition, symbols": lambda: prose,
    "near and exact duplicates": lambda: repeats(True),
    "exact duplicates alone": lambda: repeats(False),
    "languages (200 documents)": languages,
    "mojibake": lambda: lambda document: garbled(document.text),
    "code fences": lambda: lambda document: open_fence(document.text),
}


def seconds(see: See, documents: list[Document]) -> float:
    """Return the processor seconds of one pass: other work on the machine hardly counts."""
    start = time.process_time()
    for document in documents:
        see(document)
    return time.process_time() - start


def measure(documents: list[Document]) -> dict[str, Any]:
    """Return megabytes a second of every stage: the best of interleaved rounds."""
    size = sum(document.bytes for document in documents)
    for make in STAGES.values():  # imports, caches
        seconds(make(), documents[:20])
    best = {name: min(seconds(make(), documents) for _ in range(ROUNDS)) for name, make in STAGES.items()}
    speeds = {name: round(size / 1e6 / max(spent, 1e-9), 2) for name, spent in best.items()}
    return {"documents": len(documents), "megabytes": round(size / 1e6, 2), "megabytes_per_second": speeds}


def main() -> None:
    """Measure every source and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", action="append", metavar="SOURCE", help="as `lifelong validate` takes it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        given = options.data or [str(path) for path in write_python_corpora(Path(work)).values()]
        results = {source: measure(list(read_sources([source]))) for source in given}
    rows = [[name, *(f"{result['megabytes_per_second'][name]:,.1f}" for result in results.values())] for name in STAGES]
    columns = ["MB/s", *(f"{Path(name).name} ({result['megabytes']} MB)" for name, result in results.items())]
    print_table("Checking the quality of text, one core", columns, rows)
    write_json(options.json, {"machine": machine(), "results": results})


if __name__ == "__main__":
    main()
