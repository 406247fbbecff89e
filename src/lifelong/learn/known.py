"""What a model was taught before is not new text: it is left out of a lesson, and counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.learn.held import read_slices
from lifelong.text.cleaning import content_hash
from lifelong.text.corpus import Corpus
from lifelong.text.splitting import SPLITS
from lifelong.train.founding import learned_path


def leave_out_known(root: Path, corpus: Corpus, domains: list[str], *, again: bool = False) -> Corpus:
    """Return the corpus without documents that the model was trained on, or that its frozen slices hold.

    A document of a frozen slice in the training text would make that slice worthless; one that was trained on would
    make a new slice worthless.

    Args:
        root: the model directory.
        corpus: the text of a lesson.
        domains: what the model was taught.
        again: keep training text that was taught before.

    Raises:
        LifelongError: nothing is left to be taught.
    """
    learned = _learned(root, domains)
    frozen: dict[str, str] = {}
    for split in ("gate", "test"):
        for domain, documents in read_slices(root, domains, split).items():
            frozen |= {content_hash(document): domain for document in documents}
    taught, held_out, seen = Counter[str](), Counter[str](), Counter[str]()
    splits: dict[str, Any] = {}
    for split in SPLITS:
        documents = corpus.split(split)
        gone = set()
        for number, document in enumerate(documents):
            digest = content_hash(document)
            if split == "train" and digest in frozen:
                held_out[frozen[digest]] += 1
            elif split == "train" and digest in learned and not again:
                taught[learned[digest]] += 1
            elif split != "train" and digest in learned:
                seen[learned[digest]] += 1
            else:
                continue
            gone.add(number)
        # A prepared directory is read as it is asked for: it stays on disk where nothing is left out.
        splits[split] = [d for number, d in enumerate(documents) if number not in gone] if gone else documents
    for counts, what in (
        (taught, "were taught before and are left out (--again teaches them again)"),
        (held_out, "are in its held-out slices and are left out"),
        (seen, "held out here were trained on before and are left out"),
    ):
        for domain, count in counts.items():
            progress.note(f"note: {count:,} documents {what}: domain '{domain}'")
    if not len(splits["train"]):
        raise LifelongError(
            "nothing of this text is new: the model was taught all of it",
            where=", ".join(sorted({*taught, *held_out})),
            fix="Teach it again with --again, or give other text.",
        )
    return replace(corpus, **splits)


def _learned(root: Path, domains: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for domain in domains:
        path = root / learned_path(domain)
        if path.is_file():
            found |= dict.fromkeys(path.read_text(encoding="ascii").split(), domain)
    return found
