"""`lifelong pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import AsJson, DryRun, configurable, emit
from lifelong.errors import LifelongError
from lifelong.settings.pipeline import PipelineSettings, load_pipeline_settings

_STAGES = Annotated[list[str] | None, Parameter(negative=(), help="A stage to leave out, its output taken as it is.")]
_AGAIN = Annotated[list[str] | None, Parameter(negative=(), help="A stage to do again, with all that depend on it.")]
_USUAL = Path("trained_model")


@configurable(PipelineSettings, load_pipeline_settings)
def pipeline(
    *,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "--output-dir"], help=f"The model directory (with --data-file: {_USUAL})."),
    ] = None,
    skip: _STAGES = None,
    redo: _AGAIN = None,
    settings: PipelineSettings,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Tokenizer, caches, pretraining, chat tuning, evaluation, export: each stage once, skipped when up to date.

    Without --data and --chat the usual sets are read: FineWeb-Edu, WikiText, Dolly, OpenAssistant, and --roam-dir and
    --primer. The same command goes on after an interruption.
    """
    from lifelong.pipeline.run import run

    if out is None:
        if not settings.data_file:
            raise LifelongError("the pipeline needs a model directory to write", fix="Name it with --out DIR.")
        out = _USUAL
    result = run(out, settings, skip=skip or [], redo=redo or [], dry_run=dry_run)
    emit(result, as_json=as_json, show=lambda: _show(result))


def _show(result: dict[str, Any]) -> None:
    if "estimate" in result:
        return  # all of it was said on the way
    print(f"The model is in {result['out']}. Talk with it: lifelong chat {result['out']}")
