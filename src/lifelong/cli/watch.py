"""`lifelong watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import configurable
from lifelong.settings.serve import AddressSettings


@configurable(AddressSettings)
def watch(
    run: Annotated[Path, Parameter(help="A run's folder, or a model directory with runs.")],
    *,
    settings: AddressSettings,
) -> None:
    """Show a training while it goes on: a page with its curves."""
    from lifelong.cli.serving import answer
    from lifelong.serve.app import watching
    from lifelong.serve.board import open_run

    answer(watching(settings, open_run(run)), settings)
