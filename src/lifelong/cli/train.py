"""`lifelong train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, DryRun, configurable
from lifelong.cli.run_view import show_run
from lifelong.settings.profiles import load_train_settings
from lifelong.settings.train import TrainSettings


@configurable(TrainSettings, load_train_settings)
def train(
    *,
    data: Annotated[
        list[str] | None,
        Parameter(
            name=["--data", "--data-file"],
            consume_multiple=True,
            negative=(),
            help="PATH[:KIND][@WEIGHT] of files, folders, globs; a prepared directory; or token caches. "
            "Not needed with --cache-dir.",
        ),
    ] = None,
    out: Annotated[
        Path,
        Parameter(
            name=["--out", "--output-dir"], help="The model directory; a model that it holds is trained further."
        ),
    ],
    tokenizer: Annotated[Path | None, Parameter(help="A tokenizer (default: the model's, or a new one).")] = None,
    base: Annotated[
        Path | None,
        Parameter(
            name=["--base", "--model-name"],
            help="Start from this model, whatever --out holds: a directory, or a name on the Hugging Face hub (gpt2).",
        ),
    ] = None,
    fresh: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Begin anew although --out holds a model.")
    ] = False,
    onnx_output: Annotated[
        Path | None,
        Parameter(
            name=["--onnx-output", "--onnx-out"],
            help="Write the model's ONNX export there after training (default: OUT/onnx, where there is one).",
        ),
    ] = None,
    eval_only: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="Train nothing: measure --resume, or else --out, on the test split."
        ),
    ] = False,
    resume: Annotated[Path | None, Parameter(help="With --eval-only: the run or checkpoint to measure.")] = None,
    settings: TrainSettings,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on text; a model that --out holds already is trained further."""
    from lifelong.learn.recovery import mention
    from lifelong.train.following import follow, follows

    if follows():
        sys.exit(follow())
    mention(out)
    if eval_only:
        from lifelong.cli.evaluate import show_scores
        from lifelong.settings.prepare import EvaluateSettings

        measured = EvaluateSettings(
            split="test",
            device=settings.device,
            sequence_length=settings.sequence_length,
            generation=settings.evaluation.generation,
        )
        show_scores(resume or out, data, measured, as_json=as_json)
        return
    if resume is not None:
        from lifelong.errors import LifelongError

        raise LifelongError(
            "going on with an interrupted run is a verb of its own", where="--resume", fix=f"lifelong resume {resume}"
        )
    from lifelong.export.writing import check_onnx_output, update_onnx
    from lifelong.train.run import train as run

    check_onnx_output(onnx_output)
    result = run(
        data or [], out, settings, tokenizer=tokenizer, base=base, fresh=fresh, onnx=onnx_output, dry_run=dry_run
    )
    if not dry_run:
        update_onnx(out, onnx_output)
    show_run(result, as_json=as_json, dry_run=dry_run)
