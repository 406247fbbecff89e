"""`validate`: all checks of a data-quality report on sources, with or without a tokenizer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.text.document import DataSource, Document
from lifelong.text.validation import Checker, ValidationReport, check_sources
from lifelong.text.validation.language import SAMPLE
from lifelong.text.validation.sources import Progress
from lifelong.tokens.checks import TokenChecks, load_for_checks, longest_row


def validate(
    sources: Sequence[DataSource | str | Path] | DataSource | str | Path,
    *,
    tokenizer: str | Path | None = None,
    max_length: int | None = None,
    examples: int = 5,
    near_duplicates: bool = True,
    languages: int = SAMPLE,
    samples: list[Document] | None = None,
    show: int = 0,
    progress: Progress | None = None,
) -> ValidationReport:
    """Check the quality of text before anything is trained on it.

    Args:
        sources: files, globs, folders or prepared directories; the splits of the latter are checked against each other.
        tokenizer: a tokenizer or model directory: what the loss will see is checked too.
        max_length: tokens of a row; of a model directory, by default what the model takes.
        examples: places named for each rule.
        near_duplicates: whether they are looked for.
        languages: documents of each source whose language is guessed; 0 guesses none.
        samples: filled with a random sample of ``show`` documents (the same one for the same sources).
        progress: called with (files done, files in all).

    Raises:
        LifelongError: a source or the tokenizer is not there, or ``max_length`` comes without a tokenizer.
    """
    if max_length is not None and tokenizer is None:
        raise LifelongError(
            "a maximum length is counted in tokens, and there is no tokenizer", fix="Give one with --tokenizer DIR."
        )
    checker = Checker(examples=examples, near=near_duplicates, languages=languages)
    if tokenizer is not None:
        length = max_length or longest_row(tokenizer)
        if (loaded := load_for_checks(tokenizer, checker.findings)) is not None:
            checker.tokens = TokenChecks(loaded, length)
    generator, seen = random.Random(0), 0

    def sample(document: Document) -> None:
        # Reservoir sampling (Vitter 1985, algorithm R): every document has the same chance, and `show` are in memory.
        nonlocal seen
        assert samples is not None
        seen += 1
        if len(samples) < show:
            samples.append(document)
        elif (place := generator.randrange(seen)) < show:
            samples[place] = document

    listed = [sources] if isinstance(sources, DataSource | str | Path) else sources
    check_sources(checker, listed, progress=progress, on_document=sample if samples is not None else None)
    return checker.report()
