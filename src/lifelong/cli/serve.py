"""`lifelong serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lifelong import progress
from lifelong.cli.common import ModelOrExport, configurable, note_if_alone
from lifelong.cli.writers import runs_elsewhere
from lifelong.settings.serve import ServeSettings

if TYPE_CHECKING:
    from lifelong.serve.exported import AnyViews


@configurable(ServeSettings)
def serve(
    model: ModelOrExport,
    *,
    store: Annotated[Path | None, Parameter(help="A store of passages, that answers are given with.")] = None,
    settings: ServeSettings,
) -> None:
    """Serve a model over HTTP, as OpenAI's clients speak it, with a page to talk to it."""
    from lifelong.cli.serving import answer
    from lifelong.serve.app import serving
    from lifelong.serve.board import Board
    from lifelong.serve.sources import Sources

    place, views = open_views(model, settings)
    sources = Sources(store, views) if store is not None else None
    answer(serving(views, settings, Board(place), sources), settings)


def open_views(path: Path, settings: ServeSettings) -> tuple[Path, AnyViews]:
    """Load a model, or an export in its own program; returns its directory, too."""
    if runs_elsewhere(path, settings):
        from lifelong.serve.exported import Exported

        export = Exported(path, context=settings.context)
        note_if_alone(export.model, settings)
        progress.note(
            f"note: a model of an export ({export.engine}: {', '.join(export.targets)}) writes one text at a time, "
            f"whatever --slots says; up to {settings.queue} more wait (--queue)"
        )
        return path, export
    from lifelong.model.directory import find_model
    from lifelong.serve.views import Views

    place = find_model(path)
    views = Views.load(
        place,
        device=settings.device,
        rows=settings.slots,
        context=settings.context,
        fixed_share=settings.fixed_share,
    )
    views.model.set_precision(settings.precision)
    return place, views
