"""`lifelong consolidate`."""

from __future__ import annotations

from lifelong.cli.common import AsJson, ChangedModel, DryRun, configurable, emit
from lifelong.settings.consolidate import ConsolidateSettings


@configurable(ConsolidateSettings)
def consolidate(
    model: ChangedModel, *, settings: ConsolidateSettings, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Fold what a model's adapters know into one set of plain weights; undone where a domain loses by it."""
    from lifelong.learn.consolidation import consolidate as fold
    from lifelong.learn.cost import Forecast

    result = fold(model, settings, dry_run=dry_run)
    if isinstance(result, Forecast):  # people have read it on standard error
        emit(result.to_dict(), as_json=as_json, show=lambda: None)
        return
    emit(result.to_dict(), as_json=as_json, show=lambda: print(result.summary()))
