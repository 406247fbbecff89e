"""How a data-quality report, and documents as the loss sees them, look on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong import progress
from lifelong.cli.common import spell_bytes, spell_value

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from lifelong.text import Document
    from lifelong.text.validation import Finding, ValidationReport
    from lifelong.tokens.showing import Span

_SHOWN_TOKENS = 400  # of each document
_SHOWN_SOURCES = 10


def show_report(report: ValidationReport) -> None:
    """Print errors, warnings and facts on standard output, in colours on a terminal."""
    console = _console()
    for title, findings, style in (("Errors", report.errors, "bold red"), ("Warnings", report.warnings, "yellow")):
        if findings:
            console.print(title, style=style)
            for finding in findings:
                _show_finding(console, finding, style)
    if not report.errors and not report.warnings:
        console.print("Nothing to object to.", style="green")
    console.print("Facts", style="bold")
    for name, value in report.facts.items():
        _print(console, f"  {name.replace('_', ' ')}: {_spell(name, value)}")


def _console(*, on_errors: bool = False) -> Console:
    from rich.console import Console

    # Paths must stay whole where they are copied from: nothing is wrapped.
    return Console(soft_wrap=True, highlight=False, stderr=on_errors)


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False)


def _show_finding(console: Console, finding: Finding, style: str) -> None:
    from rich.text import Text

    kinds = ", ".join(f"{count:,} {kind}" for kind, count in finding.by_kind.most_common(6))
    head = Text("  ").append(f"{finding.count:>7,}  {finding.title}", style).append(f"  [{finding.rule}]", "dim")
    console.print(head.append(f"  {kinds}" if kinds else ""))
    for example in finding.examples:
        console.print(Text("           ").append(example.where, "cyan").append(f"  {_one_line(example.snippet)}"))
    _print(console, f"           -> {finding.fix}", "dim")


def _one_line(text: str) -> str:
    """Return a text on one line, without control characters: they would move the cursor of a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _spell(name: str, value: Any) -> str:
    if name == "sources":
        shown = [
            f"{source} ({progress.spell_count(counts['documents'], 'document')}, {spell_bytes(counts['bytes'])})"
            for source, counts in list(value.items())[:_SHOWN_SOURCES]
        ]
        more = len(value) - len(shown)
        return ", ".join(shown) + (f", and {more:,} more" if more else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {spell_value(item)}" for key, item in value.items())
    return "none" if value is None else spell_bytes(value) if name == "bytes" else spell_value(value)


def show_samples(documents: Sequence[Document], tokenizer: Path, *, on_errors: bool) -> None:
    """Print documents decoded from their tokens: green is trained on, dim is not, special tokens stand out.

    Where there are no colours, what is trained on stands in ⟦ ⟧.
    """
    from lifelong.tokens.loading import load_tokenizer
    from lifelong.tokens.showing import encode_document, spans

    console = _console(on_errors=on_errors)
    loaded = load_tokenizer(tokenizer)
    for document in documents:
        ids, trained = encode_document(loaded, document)
        console.print(
            f"\n{document.place}: {len(ids):,} tokens, {sum(trained):,} trained on", style="bold", markup=False
        )
        shown = spans(loaded, ids[:_SHOWN_TOKENS], trained[:_SHOWN_TOKENS])
        console.print(coloured(shown, plain=not console.is_terminal))
        if len(ids) > _SHOWN_TOKENS:
            _print(console, f"… and {len(ids) - _SHOWN_TOKENS:,} tokens more", "dim")


def coloured(shown: Sequence[Span], *, plain: bool) -> Text:
    """Return spans for a terminal (``plain``: for one without colours)."""
    from rich.text import Text

    text, inside = Text(), False
    for span in shown:
        if plain and span.trained != inside:
            text.append("⟦" if span.trained else "⟧")
            inside = span.trained
        style = "green" if span.trained else "dim"
        text.append(span.text, f"bold reverse {style}" if span.special else style)
    return text.append("⟧") if inside else text
