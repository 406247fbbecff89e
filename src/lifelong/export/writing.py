"""`lifelong export` and `lifelong verify`: written beside the goal, verified, and moved into place only if equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.export.evidence import gather
from lifelong.export.runtimes import RECORD, read_record
from lifelong.export.source import Source, open_source
from lifelong.export.verify import VERIFICATION, Verification, verify
from lifelong.files import atomic_directory, check_manifest, claim_output, directory_kind, write_json, write_manifest
from lifelong.generate.manners import read_manners
from lifelong.model.directory import find_model
from lifelong.model.seq2seq import EncoderDecoderModel
from lifelong.model.store import ModelStore
from lifelong.settings.export import ExportSettings
from lifelong.version import __version__

# What a target's writer adds to the record, and remarks for the user.
Written = tuple[dict[str, Any], list[str]]


@dataclass(frozen=True)
class Exported:
    """An export: where, what it says of itself, what verifying it found, and remarks."""

    out: Path
    record: dict[str, Any]
    verification: Verification
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "out": str(self.out),
            **self.record,
            "notes": self.notes,
            "verification": self.verification.to_dict(),
        }


def export(path: Path, out: Path, settings: ExportSettings) -> Exported:
    """Write a model for another program, and verify that it answers the same there.

    ``out`` appears, or an older export of the same kind there is replaced, only after the verification.

    Raises:
        LifelongError: there is no model; ``out`` holds something else; the target cannot hold this model; or the export
            does not answer as the trained model does: then ``out`` is as it was.
    """
    claim_output(out, _kind(settings.to))
    if path.exists() and out.resolve() == path.resolve():
        raise LifelongError("the export would replace its own model", where=str(out), fix="Choose another --out.")
    if settings.to == "onnx":
        _need("onnxruntime", "lifelong[onnx]")
    if settings.to == "gguf":
        _need("gguf", "lifelong[gguf]")
    beside = settings.to in ("huggingface", "gguf")
    source = open_source(path, adapter=settings.adapter, merged=settings.merged, beside=beside)
    record = {
        "to": settings.to,
        "kind": source.kind,
        "precision": settings.rounding,
        "model": source.name,
        "fingerprint": source.fingerprint(),
        "adapter": source.folded,
        "adapters_beside": source.beside,
        "vocab_size": source.tokenizer.vocab_size,
        "context": source.model.config.max_seq_len,
        "manners": asdict(read_manners(source.place, source.tokenizer)),
        "lifelong": __version__,
    }
    if isinstance(source.model, EncoderDecoderModel):
        record["start_id"] = source.model.config.start_id
    with atomic_directory(out, _kind(settings.to), fingerprint=record["fingerprint"]) as staged:
        with progress.task(f"Writing {settings.to} {settings.rounding}"):
            more, notes = _writer(settings.to)(source, staged, settings.rounding, source.name)
        record |= more
        write_json(staged / RECORD, record)
        found = verify(staged, source, gather(source, strings=settings.strings, tokens=settings.tokens))
        write_json(staged / VERIFICATION, found.to_dict())
        _refuse_if_other(found, out)
    notes = [*source.notes, *notes]
    for note in notes:
        progress.note(f"note: {note}")
    return Exported(out, record, found, notes)


def check_onnx_output(out: Path | None) -> None:
    """Find out before a training whether an ONNX export can be written to ``out`` after it.

    Raises:
        LifelongError: ``out`` holds what lifelong did not export, or onnxruntime is not installed.
    """
    if out is not None:
        claim_output(out, _kind("onnx"))
        _need("onnxruntime", "lifelong[onnx]")


def update_onnx(model: Path, out: Path | None) -> Exported | None:
    """Bring a model's ONNX export up to date after it was trained: the one in ``out``, or else in ``MODEL/onnx``.

    Without ``out`` only an export that is there is renewed, in its own precision; returns None where there is none.
    One adapter can be folded into it: of several, the latest.

    Raises:
        LifelongError: as `export`; the message says that the model itself was kept.
    """
    place = out or model / "onnx"
    is_there = (place / RECORD).is_file()
    if out is None and not is_there:
        return None
    precision = read_record(place)["precision"] if is_there else None
    names = ModelStore.open(find_model(model)).adapters()
    if len(names) > 1:
        progress.note(
            f"note: an ONNX model has one set of weights: of {len(names)} adapters the latest, {names[-1]}, is folded "
            f"into it; for all at once: lifelong consolidate {model}"
        )
    try:
        latest = names[-1] if names else None
        found = export(model, place, ExportSettings(to="onnx", precision=precision, adapter=latest))
    except LifelongError as error:
        raise LifelongError(
            f"the model is trained and kept, but its ONNX export is not up to date: {error.what}",
            where=error.where or str(place),
            fix=error.fix,
        ) from None
    progress.note(f"The ONNX export in {place} is up to date.")
    return found


def verify_export(path: Path, model: Path, *, strings: int, tokens: int) -> Verification:
    """Compare an export with a trained model, and write what was found into it.

    Raises:
        LifelongError: the directory is no export or damaged; the model's weights are not those it was made of; or it
            does not answer as the model does.
    """
    record = read_record(path)
    if problem := check_manifest(path):
        raise LifelongError(f"the export is damaged: {problem}", where=str(path), fix="Export the model again.")
    names = ModelStore.open(find_model(model)).adapters()
    missing = [name for name in (record["adapter"], *record["adapters_beside"]) if name and name not in names]
    if missing:
        raise _stale(path, model, record, f"the model has no adapter '{missing[0]}' any more")
    source = open_source(model, adapter=record["adapter"] or "base", merged=False, beside=False)
    if source.fingerprint() != record["fingerprint"]:
        made, now = record["fingerprint"][:12], source.fingerprint()[:12]
        raise _stale(path, model, record, f"it was made of other weights than those of {model} now ({made}, not {now})")
    found = verify(path, source, gather(source, strings=strings, tokens=tokens))
    write_json(path / VERIFICATION, found.to_dict())
    write_manifest(path, str(directory_kind(path)), fingerprint=record["fingerprint"])
    _refuse_if_other(found, path, kept=True)
    return found


def _stale(path: Path, model: Path, record: dict[str, Any], why: str) -> LifelongError:
    return LifelongError(
        f"the export is stale: {why}",
        where=str(path),
        fix=f"lifelong export {model} --to {record['to']} --precision {record['precision']} --out {path}",
    )


def _refuse_if_other(found: Verification, path: Path, *, kept: bool = False) -> None:
    if found.problems:
        raise LifelongError(
            f"the export does not answer as the trained model does, in {found.runtime}: " + "; ".join(found.problems),
            where=str(path),
            fix="Export it again." if kept else "Nothing was written. Try another --precision or another --to.",
        )


def _kind(target: str) -> str:
    return f"{target} export"


def _need(package: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise LifelongError(f"{package} is not installed", fix=f"pip install '{extra}'")


def _writer(target: str) -> Callable[[Source, Path, str, str], Written]:
    if target == "gguf":
        from lifelong.export.gguf_directory import write_gguf_directory

        return write_gguf_directory
    if target == "onnx":
        from lifelong.export.onnx_directory import write_onnx_directory

        return write_onnx_directory
    from lifelong.export.huggingface import write_huggingface, write_inference

    return write_inference if target == "inference" else write_huggingface
