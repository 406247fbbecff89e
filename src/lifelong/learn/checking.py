"""Open the text of a lesson, and check it on the way: errors stop the lesson before it costs anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.text.corpus import Corpus, open_corpus
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import is_prepared
from lifelong.text.splitting import SPLITS
from lifelong.text.validation import Checker, ValidationReport
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.checks import TokenChecks

# What opening a source puts right by itself, and counts.
_PUT_RIGHT = ("exact-duplicate", "near-duplicate", "empty-text", "mojibake")
_LEFT_OUT = "all-truncated"  # packing leaves such conversations out, and says so
_SHOWN = 5  # warnings, and errors


def open_checked(
    sources: list[DataSource],
    domain: str,
    tokenizer: Tokenizer,
    sequence_length: int | None,
    *,
    texts: Sequence[Document] = (),
) -> Corpus:
    """Return the corpus of a lesson after checking its quality; warnings are printed as notes.

    Args:
        sources: as `open_corpus` takes them.
        domain: the name of what is taught.
        tokenizer: of the model.
        sequence_length: inputs in a row; the token after the last is still learned.
        texts: documents that are in memory, beside those of the sources.

    Raises:
        LifelongError: as `open_corpus`; or the text has errors, the first of which are named.
    """
    length = None if sequence_length is None else sequence_length + 1
    # Twins do not come through, and one domain may be in any language.
    checker = Checker(examples=1, near=False, languages=0, tokens=TokenChecks(tokenizer, length))
    names = [*(str(source.path) for source in sources), *dict.fromkeys(text.source for text in texts)]
    if len(names) == len(sources) == 1 and not sources[0].is_hub and is_prepared(Path(sources[0].path).expanduser()):
        corpus = open_corpus(sources, domain=domain)
        for split in SPLITS:
            for document in corpus.split(split):
                checker.see(document, split)
    else:
        try:
            corpus = open_corpus(
                sources,
                domain=domain,
                min_chars=1,  # a sentence is a lesson
                texts=texts,
                on_problem=checker.problem,
                on_document=checker.see,
            )
        except LifelongError:  # nothing is left: the errors say why
            if checker.findings.has_errors:
                raise _refused(checker.report(), names) from None
            raise
    report = checker.report()
    chats = report.facts["kinds"].get("chat", 0)
    if any(finding.rule != _LEFT_OUT or finding.count == chats for finding in report.errors):
        raise _refused(report, names)
    found = [finding for finding in report.errors + report.warnings if finding.rule not in _PUT_RIGHT]
    for finding in found[:_SHOWN]:
        progress.note(f"note: {finding.line()}")
    if found:
        progress.note("note: `lifelong validate` on the same sources shows every place, and what to do")
    return corpus


def _refused(report: ValidationReport, names: list[str]) -> LifelongError:
    lines = [finding.line() for finding in report.errors]
    more = [f"and {len(lines) - _SHOWN} kinds more"] if len(lines) > _SHOWN else []
    return LifelongError(
        "the text has errors; nothing was taught\n  " + "\n  ".join([*lines[:_SHOWN], *more]),
        where=", ".join(names),
        fix="Mend them, or leave them out with `lifelong prepare --skip-bad`. `lifelong validate` shows every place.",
    )
