"""`lifelong learn`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong import progress
from lifelong.cli.common import AsJson, ChangedModel, DryRun, Sources, configurable, emit
from lifelong.settings.learn import LearnSettings


@configurable(LearnSettings)
def learn(
    model: ChangedModel,
    sources: Sources,
    *,
    onnx_output: Annotated[
        Path | None,
        Parameter(
            name=["--onnx-output", "--onnx-out"],
            help="Write the model's ONNX export there after a kept lesson (default: MODEL/onnx, where there is one).",
        ),
    ] = None,
    settings: LearnSettings,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Teach a model one more domain, measure what it did to all domains, and keep the lesson or undo it."""
    from lifelong.export.writing import check_onnx_output, update_onnx
    from lifelong.learn.cost import Forecast
    from lifelong.learn.session import learn as teach

    check_onnx_output(onnx_output)
    result = teach(model, sources, settings, dry_run=dry_run)
    if isinstance(result, Forecast):  # people have read it on standard error
        emit(result.to_dict(), as_json=as_json, show=lambda: None)
        return
    if result.accepted:
        update_onnx(model, onnx_output)
    emit(result.to_dict(), as_json=as_json, show=lambda: print(result.summary()))
    if not as_json and result.accepted:
        verbs = (shlex.join(["lifelong", verb, str(model)]) for verb in ("matrix", "rollback"))
        progress.note("Next: {}; undo it: {}".format(*verbs))
