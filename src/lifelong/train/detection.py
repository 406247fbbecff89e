"""What lies at ``--out`` before a run: nothing, a model to train further, one that lacks a file, or only an export."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.locks import writer_lock
from lifelong.model.directory import CONFIG, is_model_directory
from lifelong.model.store import HOME
from lifelong.model.weights import TORCH_WEIGHTS, WEIGHTS
from lifelong.train.folder import RUNS, RunFolder

ONNX = "onnx"
EXPORT_RECORD = "export.json"  # what an export of ours says of itself
PIPELINE = "pipeline"  # where a pipeline keeps its tokenizer, its caches and its notes
# What a run itself makes; an export beside the model stays where it is.
_OURS = (RUNS, HOME, ONNX, PIPELINE)
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "spm.model", "tokenizer.model", "vocab.*", "merges.txt")
_PARTS = (CONFIG, "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.onnx", *_TOKENIZERS)
_BESIDE = (
    *("generation_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.*", "*.onnx_data"),
    *("README.md", "LICENSE*", "*.tmp", ".*"),
    # What transformers' Trainer leaves beside a model.
    *("training_args.bin", "trainer_state.json", "checkpoint-*", "optimizer.pt", "scheduler.pt", "rng_state*.pth"),
)


@dataclass(frozen=True)
class Found:
    """What a run starts from, and what becomes of what ``--out`` holds.

    Attributes:
        start: the model to start from; None for a new one.
        further: ``start`` is the model that ``--out`` holds.
        lacking: names what an incomplete model at ``--out`` lacks; it is to be moved aside.
        says: sentences for the user.
    """

    start: Path | None
    further: bool
    lacking: str | None
    says: list[str]


def detect(out: Path, *, base: Path | None = None, fresh: bool = False, onnx: Path | None = None) -> Found:
    """Find out what to start from; changes nothing.

    Args:
        out: the model directory that the run will write.
        base: a model to start from whatever ``out`` holds.
        fresh: start with a new model whatever ``out`` holds.
        onnx: where the model's ONNX export lies (default: ``out/onnx``).

    Raises:
        LifelongError: ``out`` is a file, holds other people's files or weights that are not read here; or ``base``
            does not exist.
    """
    if out.exists() and not out.is_dir():
        raise LifelongError("the output is a file, a directory is needed", where=str(out), fix="Choose another --out.")
    if base is not None and not base.exists():
        raise LifelongError(
            "no such base model here",
            where=str(base),
            fix="Give a local directory; a model of the hub is downloaded first: hf download NAME --local-dir DIR",
        )
    export = next((place for place in (onnx or out / ONNX,) if any(place.glob("*.onnx"))), None)
    exists = is_model_directory(out)
    same = base is not None and exists and base.resolve() == out.resolve()
    says = [] if exists else _unfinished(out)
    lacking = None if exists else _lacking(out)
    if lacking is not None:
        says.append(f"Incomplete model in {out}: {lacking}. It is moved aside, and training starts fresh.")
    if export is not None and exists:
        ours = (export / EXPORT_RECORD).is_file()
        then = "updated then" if ours else "left as it is: lifelong did not export it"
        says.append(f"Found an ONNX model at {export}: it is stale once the model is trained further, and {then}.")
    elif export is not None:
        says.append(
            f"warning: found an ONNX model at {export}, but its source model is not in {out}. "
            "ONNX cannot be trained further, so training starts fresh."
        )
    if exists and (same or (base is None and not fresh)):
        says.append(f"Found an existing trained model in {out}: continuing training from it.")
        return Found(out, True, None, says)
    if exists:
        why = "--base names another" if base is not None else "--fresh asks for a new one"
        says.append(f"Found an existing trained model in {out}, but {why}: it is replaced, and kept in its history.")
    if base is not None:
        says.append(f"Training from base model {base}.")
    elif not exists and lacking is None and export is None:
        says.append(f"No existing model in {out}: training a new one.")
    return Found(base, False, lacking, says)


def move_aside(out: Path) -> Path:
    """Rename an incomplete model to the next free ``NAME.incomplete-N`` beside it, and return that.

    Raises:
        LifelongError: another process is writing there.
    """
    if (out / HOME).is_dir():
        with writer_lock(out / HOME):
            pass
    number = 1
    while (aside := out.with_name(f"{out.name}.incomplete-{number}")).exists():
        number += 1
    out.resolve().rename(aside.absolute())
    progress.note(f"The incomplete model was moved to {aside}.")
    return aside


def _lacking(out: Path) -> str | None:
    """Return what a directory lacks to be a model; None where it holds nothing of a model.

    Raises:
        LifelongError: it holds other files than those of models, or weights in several files.
    """
    names = sorted(path.name for path in out.iterdir() if path.name not in _OURS) if out.is_dir() else []
    parts = [name for name in names if _any(name, _PARTS)]
    foreign = [name for name in names if name not in parts and not _any(name, _BESIDE)]
    if foreign or (names and not parts):
        raise LifelongError(
            f"the output directory holds files, but no model ({(foreign or names)[0]}); it is never overwritten",
            where=str(out),
            fix="Choose another --out, or move the directory away first.",
        )
    if any(_any(name, ("*.index.json", "model-0*", "pytorch_model-0*")) for name in parts):
        raise LifelongError(
            "the model's weights lie in several files, which are not read yet",
            where=str(out),
            fix='Write one file: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR, max_shard_size="1TB")',
        )
    if not parts:
        return None
    missing = [] if CONFIG in parts else [CONFIG]
    if not {WEIGHTS, TORCH_WEIGHTS} & set(parts):
        missing.append(f"{WEIGHTS} (or {TORCH_WEIGHTS})")
    only = "; it is an ONNX model, which cannot be trained further" if _any_of(parts, "*.onnx") else ""
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{only}"


def _unfinished(out: Path) -> list[str]:
    runs = [run for path in sorted((out / RUNS).glob("*")) if (run := RunFolder(path)).resumable()]
    return [f"note: an interrupted run lies there; `lifelong resume {runs[-1].path}` goes on with it"] if runs else []


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _any_of(names: list[str], pattern: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for name in names)
