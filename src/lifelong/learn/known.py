"""What a model was taught before is not new text: it is left out of a lesson, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.learn.held import read_slices
from lifelong.text.cleaning import content_hash
from lifelong.text.corpus import Corpus
from lifelong.text.cutting import cut
from lifelong.text.document import Document
from lifelong.text.memory import ReplayMemory
from lifelong.text.splitting import SPLITS
from lifelong.train.founding import MEMORY, learned_path

if TYPE_CHECKING:
    from lifelong.text.duplicates import NearDuplicates


def leave_out_known(root: Path, corpus: Corpus, domains: list[str], *, again: bool = False) -> Corpus:
    """Return the corpus without documents that the model was trained on, or that its frozen slices hold.

    A document of a frozen slice in the training text would make that slice worthless; one that was trained on would
    make a new slice worthless. So would a near duplicate: of training text those of frozen documents are left out, of
    what is held out those of remembered examples (all that is left of the text taught before; so of much text not all
    are found). Training text that is nearly what was taught before stays: it may be its next version. Conversations
    are compared to the letter only: the same question may have another answer.

    Args:
        root: the model directory.
        corpus: the text of a lesson.
        domains: what the model was taught.
        again: keep training text that was taught before.

    Raises:
        LifelongError: nothing is left to be taught.
    """
    learned = learned_hashes(root, domains)
    frozen: dict[str, str] = {}
    held: list[tuple[str, Document]] = []
    for split in ("gate", "test"):
        for own, documents in read_slices(root, domains, split).items():
            frozen |= {content_hash(document): own for document in documents}
            held += [(own, document) for document in documents]
    like_held = _near(held)
    examples = ReplayMemory.load(root / MEMORY).examples
    like_taught = _near((domain, example) for domain, remembered in examples.items() for example in remembered)
    taught, held_out, seen = Counter[str](), Counter[str](), Counter[str]()
    near_held, near_seen = Counter[str](), Counter[str]()
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
            elif split == "train" and (twin := _twin(like_held, document)):
                near_held[twin] += 1
            elif split != "train" and digest in learned:
                seen[learned[digest]] += 1
            elif split != "train" and (twin := _twin(like_taught, document)):
                near_seen[twin] += 1
            else:
                continue
            gone.add(number)
        # A prepared directory is read as it is asked for: it stays on disk where nothing is left out.
        splits[split] = [d for number, d in enumerate(documents) if number not in gone] if gone else documents
    for counts, what in (
        (taught, "taught before (--again teaches all again)"),
        (held_out, "also in its held-out slices"),
        (near_held, "nearly equal to some in its held-out slices"),
        (seen, "held out here, trained on before"),
        (near_seen, "held out here, nearly equal to text remembered from training"),
    ):
        for own, count in counts.items():
            progress.note(f"note: left out, {what}: {progress.spell_count(count, 'document')} of domain '{own}'")
    if not len(splits["train"]):
        raise LifelongError(
            "nothing of this text is new: the model was taught all of it",
            where=", ".join(sorted({*taught, *held_out, *near_held})),
            fix="Teach it again with --again, or give other text.",
        )
    return replace(corpus, **splits)


def learned_hashes(root: Path, domains: list[str]) -> dict[str, str]:
    """Return the hashes of the documents that a model was trained on, each with its domain."""
    found: dict[str, str] = {}
    for domain in domains:
        path = root / learned_path(domain)
        if path.is_file():
            found |= dict.fromkeys(path.read_text(encoding="ascii").split(), domain)
    return found


def _near(documents: Iterable[tuple[str, Document]]) -> NearDuplicates:
    """Remember the pieces of documents, each under its domain."""
    from lifelong.text.duplicates import NearDuplicates  # loads numpy

    near = NearDuplicates()
    for domain, document in documents:
        for piece in [] if document.messages else cut(document):
            near.find_or_add(piece.text, domain)
    return near


def _twin(near: NearDuplicates, document: Document) -> str | None:
    """Return the domain of a piece that nearly equals one of a document; None where there is none."""
    pieces = [] if document.messages or not near.keys else cut(document)
    return next((domain for piece in pieces if (domain := near.find(piece.text))), None)
