"""Near duplicates: how many planted ones are found, how many of those found are true, and how fast.

Documents of about 4 kB are cut from the folders of ``--data``; a copy of every second one, with 5% of its words
replaced (or replaced, deleted and doubled), is offered after all originals. Recall: copies found. Precision: how many
of the documents that are called near duplicates are: planted ones that were traced to their original, and originals
that resemble one another (a corpus repeats itself) with a true similarity of ``--similar`` or more.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from pathlib import Path

from common import machine, print_table, write_json

from lifelong.text import DataSource, read_sources
from lifelong.text.cutting import cut
from lifelong.text.document import SIMILAR
from lifelong.text.duplicates import SHINGLE, NearDuplicates

_KINDS = ("replaced", "mixed")


def edited(text: str, share: float, kind: str, random_: random.Random) -> str:
    """Return the text with a share of its words replaced; if ``mixed``, a third each replaced, deleted and doubled."""
    words = text.split(" ")
    out = []
    for word in words:
        if random_.random() >= share:
            out.append(word)
            continue
        choice = random_.randrange(3) if kind == "mixed" else 0
        out += [[random_.choice(words)], [], [word, word]][choice]
    return " ".join(out)


def jaccard(one: str, two: str) -> float:
    """Return the true similarity of two texts' shingles."""
    sets = []
    for text in (one, two):
        folded = " ".join(text.lower().split())
        sets.append({folded[start : start + SHINGLE] for start in range(len(folded) - SHINGLE + 1)})
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def main() -> None:
    """Plant, search, and print how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of text")
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--edits", type=float, default=0.05, help="share of words changed")
    parser.add_argument("--similar", type=float, default=0.7, help="true similarity of a pair that counts as right")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.7, 0.75, SIMILAR])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args()
    pieces = [p.text for d in read_sources([DataSource(f) for f in options.data]) for p in cut(d) if p.bytes > 500]
    random.Random(0).shuffle(pieces)
    originals = pieces[: options.documents]
    results = []
    for kind, threshold in itertools.product(_KINDS, options.thresholds):
        random_ = random.Random(1)
        known = NearDuplicates(threshold)
        size = sum(len(text.encode()) for text in originals)
        started = time.perf_counter()
        own = [(text, known.find_or_add(text, str(number))) for number, text in enumerate(originals)]
        seconds = time.perf_counter() - started
        planted = [number for number, (_, twin) in enumerate(own) if twin is None and number % 2 == 0]
        found = right = 0
        for number in planted:
            twin = known.find_or_add(edited(originals[number], options.edits, kind, random_), f"copy {number}")
            found += twin is not None
            right += twin == str(number)
        chance = [(text, originals[int(twin)]) for text, twin in own if twin is not None]
        true = sum(jaccard(one, two) >= options.similar for one, two in chance)
        results.append(
            {
                "edits": kind,
                "threshold": threshold,
                "planted": len(planted),
                "recall": found / len(planted),
                "precision": (right + true) / max(1, found + len(chance)),
                "found_among_originals": len(chance),
                "megabytes_per_second": size / 1e6 / seconds,
            }
        )
    print_table(
        f"Near duplicates: {options.edits:.0%} of words edited",
        list(results[0]),
        [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in result.values()] for result in results],
    )
    write_json(options.json, {"machine": machine(), "edits": options.edits, "results": results})


if __name__ == "__main__":
    main()
