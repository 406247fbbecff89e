"""`lifelong prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

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
    """Read, clean, deduplicate and split text, and say what was kept and dropped."""
    from lifelong import text
    from lifelong.progress import task

    options: dict[str, Any] = {
        "domain": settings.domain or "",
        "seed": settings.seed,
        "fractions": settings.fractions,
        "split_by": settings.split_by,
        "min_chars": settings.min_chars,
    }
    with task("Reading") as shown:
        if dry_run:
            corpus = text.build_corpus(sources, **options, progress=shown)
        else:
            corpus = text.prepare(sources, out, **options, progress=shown)
    result = {"out": None if dry_run else str(out), **corpus.report}

    def show() -> None:
        for entry in corpus.report["sources"]:
            print(f"{entry['path']}: {entry['kept']:,} of {entry['read']:,} documents kept")
            for reason, dropped in entry["dropped"].items():
                print(f"  dropped, {reason}: {dropped['count']:,} (such as {dropped['examples'][0]})")
            for reason, note in entry["notes"].items():
                print(f"  {reason}: {note['count']:,} (such as {note['examples'][0]})")
            for reason, skipped in entry["skipped_files"].items():
                print(f"  files skipped, {reason}: {skipped['count']:,} (such as {skipped['examples'][0]})")
        for warning in corpus.report["warnings"]:
            print(f"note: {warning}")
        for name in ("train", "gate", "test"):
            documents = corpus.split(name)
            print(f"{name:<5}  {len(documents):>8,} documents  {spell_bytes(sum(d.bytes for d in documents)):>9}")
        print("Nothing was written (--dry-run)." if dry_run else f"Written to {out}")

    emit(result, as_json=as_json, show=show)
