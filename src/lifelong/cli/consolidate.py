"""`lifelong consolidate`."""

from __future__ import annotations

from lifelong.cli.common import AsJson, DryRun, Model, configurable, emit
from lifelong.settings.consolidate import ConsolidateSettings


@configurable(ConsolidateSettings)
def consolidate(
    model: Model, *, settings: ConsolidateSettings, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Fold what a model's adapters know into one set of plain weights; undone where a domain loses by it."""
    from lifelong.learn.consolidation import consolidate as fold

    result = fold(model, settings, dry_run=dry_run)
    if result is None:  # a dry run has said all on standard error
        if as_json:
            emit({"dry_run": True}, as_json=True)
        return
    emit(result.to_dict(), as_json=as_json, show=lambda: print(result.summary()))
