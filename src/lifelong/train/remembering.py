"""What training further does to what a model knew: a row of the forgetting matrix for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifelong import progress
from lifelong.evaluate.bits import score
from lifelong.evaluate.matrix import Matrix, extend_matrix
from lifelong.model.store import ModelStore
from lifelong.text.document import Document
from lifelong.text.memory import read_slice
from lifelong.train.founding import slice_path
from lifelong.train.job import Job


def measure_domains(job: Job, *, before: bool = False) -> dict[str, float] | None:
    """Return bits per byte of the test slice of each domain that the model was taught, and of this run's.

    Args:
        job: the run.
        before: the run has not begun; what the matrix knows already is not measured again.

    Returns:
        None where the model was taught nothing here yet: there is nothing to compare with.
    """
    slices = _slices(job)
    if slices is None:
        return None
    known = _matrix(job) if before else None
    last = dict(zip(known.domains, known.bpb[-1], strict=True)) if known else {}
    wanted = {domain: texts for domain, texts in slices.items() if last.get(domain) is None}
    found = {}
    with progress.task("Measuring what it knows", total=len(wanted)) as shown:
        for number, (domain, documents) in enumerate(wanted.items(), start=1):
            result = score(
                job.model,
                job.tokenizer,
                documents,
                sequence_length=job.loader.sequence_length,
                max_bytes=job.settings.evaluation.max_bytes,
            )
            found[domain] = result.bits_per_byte
            shown.update(done=number)
    return found


def next_matrix(job: Job) -> Matrix | None:
    """Return the matrix with a row for this run; None where the model was taught nothing before it."""
    before = job.run.facts["domains_before"]
    if before is None:
        return None
    after = measure_domains(job)
    assert after is not None  # as it was before the run
    known = _matrix(job)
    return extend_matrix(known.to_dict() if known else None, before, after, job.domain)


def _slices(job: Job) -> dict[str, Sequence[Document]] | None:
    place = job.origin.past
    domains = list(ModelStore.open(place).state().get("domains", [])) if place else []
    if place is None or not domains:
        return None
    found: dict[str, Sequence[Document]] = {domain: _frozen(place, domain) for domain in domains}
    if not found.get(job.domain):
        found[job.domain] = job.corpus.test
    return {domain: documents for domain, documents in found.items() if documents}


def _frozen(place: Path, domain: str) -> list[Document]:
    path = place / slice_path(domain, "test")
    return read_slice(path) if path.is_file() else []


def _matrix(job: Job) -> Matrix | None:
    raw = ModelStore.open(job.origin.past).state().get("matrix") if job.origin.past else None
    return Matrix.from_dict(raw) if raw else None
