"""What training further does to what a model knew: a row of the forgetting matrix for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.bits import score
from lifelong.evaluate.growing import extend_matrix, measuring_of
from lifelong.evaluate.matrix import Matrix, Measuring
from lifelong.model.base import LanguageModel
from lifelong.model.store import ModelStore
from lifelong.text.document import Document
from lifelong.text.memory import frozen, read_slice
from lifelong.tokens.base import Tokenizer
from lifelong.train.founding import slice_path
from lifelong.train.job import Job
from lifelong.train.start import Origin


def measure_domains(job: Job, *, before: bool = False) -> dict[str, float] | None:
    """Return bits per byte of the test slice of each domain that the model was taught, and of this run's.

    Args:
        job: the run.
        before: the run has not begun; what the matrix knows already is not measured again.

    Returns:
        None where the model was taught nothing here yet: there is nothing to compare with.
    """
    return measure_known(
        job.model,
        job.tokenizer,
        job.origin,
        {job.domain: frozen(job.corpus.test)},
        Measuring(job.loader.sequence_length, job.settings.evaluation.max_bytes),
        before=before,
    )


def next_matrix(job: Job) -> Matrix | None:
    """Return the matrix with a row for this run; None where the model was taught nothing before it."""
    before = job.run.facts["domains_before"]
    if before is None:
        return None
    measuring = Measuring(job.loader.sequence_length, job.settings.evaluation.max_bytes)
    return matrix_with_row(job.origin, before, measure_domains(job) or {}, job.domain, measuring)


def measure_known(
    model: LanguageModel,
    tokenizer: Tokenizer,
    origin: Origin,
    own: dict[str, Sequence[Document]],
    measuring: Measuring,
    *,
    before: bool = False,
) -> dict[str, float] | None:
    """Do as `measure_domains` for a model that comes from ``origin``; ``own`` is the text of a domain it is taught."""
    place = origin.past
    domains = list(ModelStore.open(place).state().get("domains", [])) if place else []
    if place is None or not domains:
        return None
    frozen: dict[str, Sequence[Document]] = {domain: _frozen(place, domain) for domain in domains}
    slices = {domain: documents for domain, documents in frozen.items() if documents}
    slices = {**slices, **{domain: documents for domain, documents in own.items() if domain not in slices}}
    known = _raw_matrix(origin) if before else None
    last = dict(zip(known["domains"], known["bpb"][-1], strict=True)) if known else {}
    wanted = {domain: held for domain, held in slices.items() if len(held) and last.get(domain) is None}
    how = measuring_of(_raw_matrix(origin), measuring)
    found = {}
    with progress.task("Measuring what it knows", total=len(wanted)) as shown:
        for number, (domain, held) in enumerate(wanted.items(), start=1):
            result = score(model, tokenizer, held, sequence_length=how.sequence_length, max_bytes=how.max_bytes)
            found[domain] = result.bits_per_byte
            shown.update(done=number)
    return found


def matrix_with_row(
    origin: Origin, before: dict[str, float], after: dict[str, float], label: str, measuring: Measuring
) -> Matrix:
    """Return the matrix that a model brought from ``origin`` with one more row."""
    raw = _raw_matrix(origin)
    known = Matrix.from_dict(raw).measuring if raw else None
    return extend_matrix(raw, before, after, label, known or measuring)


def _frozen(place: Path, domain: str) -> list[Document]:
    path = place / slice_path(domain, "test")
    return read_slice(path) if path.is_file() else []


def _raw_matrix(origin: Origin) -> dict[str, Any] | None:
    return ModelStore.open(origin.past).state().get("matrix") if origin.past else None
