"""`lifelong serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import Model, configurable
from lifelong.settings.serve import ServeSettings


@configurable(ServeSettings)
def serve(
    model: Model,
    *,
    store: Annotated[Path | None, Parameter(help="A store of passages, that answers are given with.")] = None,
    settings: ServeSettings,
) -> None:
    """Serve a model over HTTP, as OpenAI's clients speak it, with a page to talk to it."""
    from lifelong.cli.serving import answer
    from lifelong.model.directory import find_model
    from lifelong.serve.app import serving
    from lifelong.serve.board import Board
    from lifelong.serve.sources import Sources
    from lifelong.serve.views import Views

    place = find_model(model)
    views = Views.load(
        place,
        device=settings.device,
        rows=settings.slots,
        context=settings.context,
        fixed_share=settings.fixed_share,
    )
    sources = Sources(store, views) if store is not None else None
    answer(serving(views, settings, Board(place), sources), settings)
