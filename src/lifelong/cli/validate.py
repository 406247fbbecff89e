"""`lifelong validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifelong.cli.common import AsJson, Sources, configurable, emit
from lifelong.settings.validate import ValidateSettings

if TYPE_CHECKING:
    from lifelong.text import Document


@configurable(ValidateSettings)
def validate(sources: Sources, *, settings: ValidateSettings, as_json: AsJson = False) -> None:
    """Check the quality of text before training: errors (exit code 2), warnings and facts, with places and remedies."""
    from lifelong.cli.validation_view import show_report, show_samples
    from lifelong.errors import LifelongError
    from lifelong.progress import task
    from lifelong.tokens.validation import validate as check

    if settings.show and settings.tokenizer is None:
        raise LifelongError(
            "the loss mask is one of tokens, and there is no tokenizer", fix="Give one with --tokenizer DIR."
        )
    samples: list[Document] = []
    with task("Checking") as shown:
        report = check(
            sources,
            tokenizer=settings.tokenizer,
            max_length=settings.max_length,
            examples=settings.examples,
            near_duplicates=settings.near_duplicates,
            languages=settings.languages,
            samples=samples if settings.show else None,
            show=settings.show,
            progress=shown,
        )
    emit(report.to_dict(), as_json=as_json, show=lambda: show_report(report))
    if samples and settings.tokenizer is not None:
        show_samples(samples, settings.tokenizer, on_errors=as_json)
    if not report.ok:
        count = sum(finding.count for finding in report.errors)
        raise LifelongError(
            f"{count:,} error{'s' if count > 1 else ''} in the data ({', '.join(e.rule for e in report.errors)})",
            fix="The report says where, and what to do.",
        )
