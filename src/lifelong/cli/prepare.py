"""`lifelong prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lifelong import progress
from lifelong.cli.common import AsJson, DryRun, Sources, configurable, emit, spell_bytes
from lifelong.settings.prepare import PrepareSettings


@configurable(PrepareSettings)
def prepare(
    sources: Sources,
    *,
    out: Annotated[Path, Parameter(help="The prepared directory to write.")],
    settings: PrepareSettings,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Read, check, clean, deduplicate and split text, train its tokenizer, and say what was changed and dropped."""
    from lifelong.tokens.dataset import prepare_dataset

    report = prepare_dataset(sources, out, settings, dry_run=dry_run)
    result = {"out": None if dry_run else str(out), **report}

    def show() -> None:
        for entry in report["sources"]:
            _show_source(entry)
        lengths = report.get("lengths", {})
        longer = f"longer than {report['lengths']['max_length']} tokens" if lengths else ""
        _show_counts(longer, {key: found for key, found in lengths.items() if key != "max_length"}, "documents", "")
        for finding in report["validation"]["warnings"]:
            first = finding["examples"][0] if finding["examples"] else None
            print(
                f"check: {finding['title']}: {finding['count']:,}" + (f" (such as {first['where']})" if first else "")
            )
        for warning in report["warnings"]:
            print(f"note: {warning}")
        print()
        for name, facts in report["splits"].items():
            tokens = f"  {facts['tokens']:>11,} tokens" if "tokens" in facts else ""
            print(f"{name:<5}  {facts['documents']:>8,} documents  {spell_bytes(facts['bytes']):>9}{tokens}")
        if "tokenizer" in report:
            print(f"tokenizer  {report['tokenizer']['vocab_size']:,} tokens")
        if dry_run:
            print("Nothing was written (--dry-run).")
        else:
            print(f"Written to {out}\nNext: lifelong train --data {out} --out my-model")

    emit(result, as_json=as_json, show=show)


def _show_source(entry: dict[str, Any]) -> None:
    print(f"{entry['path']}: {progress.spell_count(entry['kept'], 'document')} kept of {entry['read']:,} read")
    if entry["cut"]["documents"]:
        cut = progress.spell_count(entry["cut"]["documents"], "long text")
        print(f"  cut: {cut} into {entry['cut']['pieces']:,} documents")
    _show_counts("changed", entry["changed"], "times")
    _show_counts("dropped", entry["dropped"], "documents")
    _show_counts("noted", entry["notes"], "times")
    _show_counts("files skipped", entry["skipped_files"], "files")


def _show_counts(title: str, counts: dict[str, Any], what: str, indent: str = "  ") -> None:
    for reason, found in counts.items():
        print(f"{indent}{title}, {reason}: {found['count']:,} {what} (such as {found['examples'][0]})")
