"""The last stages: measure the model on held-out text, and see that it loads where it is to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.evaluate.bits import score
from lifelong.export.runtimes import RECORD
from lifelong.export.writing import update_onnx
from lifelong.files import read_json, sha256_bytes, write_json
from lifelong.learn.held import read_slices
from lifelong.model.directory import CONFIG, GENERATION, load_model, model_card
from lifelong.model.store import HOME, ModelStore
from lifelong.model.weights import WEIGHTS
from lifelong.pipeline.notes import Notes

EVALUATION, EXPORT = "evaluation.json", "export.json"
_CARD = "README.md"
_FILES = (CONFIG, GENERATION, WEIGHTS, "tokenizer.json", "tokenizer_config.json")
# Logits of the same weights in two programs differ by rounding: 1e-5 here, far below 1e-2.
_TOLERANCE = 1e-2
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def model_hash(out: Path) -> str:
    """Return a hash of what a model directory answers with and is measured on: weights, adapters, held-out text."""
    files = ModelStore.open(out).files()
    state = {key: ModelStore.open(out).state().get(key) for key in ("adapters", "domains")}
    parts = (WEIGHTS, CONFIG, "tokenizer", f"{HOME}/adapters", f"{HOME}/domains")
    kept = {name: facts["sha256"] for name, facts in sorted(files.items()) if name.startswith(parts)}
    return sha256_bytes(json.dumps([kept, state]).encode())


@dataclass(frozen=True)
class EvaluateStage:
    """Measure the model on the test slice of every domain that it was taught."""

    out: Path
    home: Path
    device: str
    max_bytes: int
    needs: tuple[str, ...]
    name: str = "evaluate"

    def inputs(self) -> dict[str, Any]:
        """Return what the figures follow from."""
        return {"model": model_hash(self.out), "settings": {"max_bytes": self.max_bytes}}

    def problem(self) -> str | None:
        """Return what is wrong with the figures on disk."""
        return None if (self.home / EVALUATION).is_file() else f"{EVALUATION} is missing"

    def begin(self) -> dict[str, Any]:
        """Return facts to note before it runs."""
        return {}

    def run(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """Measure, and write ``evaluation.json``."""
        domains = list(ModelStore.open(self.out).state().get("domains", []))
        slices = read_slices(self.out, domains, "test")
        if not slices:
            progress.note("note: the model carries no test text, so nothing is measured")
        model, words = load_model(self.out, device=self.device)
        found = {}
        with progress.task("Evaluating", total=len(slices)) as shown:
            for number, (domain, documents) in enumerate(slices.items(), start=1):
                length = model.config.max_seq_len
                found[domain] = score(model, words, documents, sequence_length=length, max_bytes=self.max_bytes)
                shown.update(done=number)
        result = {"split": "test", "domains": {name: each.to_dict() for name, each in found.items()}}
        for name, each in found.items():
            progress.note(f"  {name}: {each.bits_per_byte:.3f} bits per byte of {each.bytes:,} bytes of test text")
        write_json(self.home / EVALUATION, result)
        return result


@dataclass(frozen=True)
class ExportStage:
    """See that the model directory loads as a stock Hugging Face one, and write its card.

    The directory is that export already; an ONNX one is written where it was asked for.
    """

    out: Path
    home: Path
    notes: Notes
    about: Mapping[str, Any]  # facts for the card
    onnx: Path | None
    needs: tuple[str, ...]
    name: str = "export"

    def inputs(self) -> dict[str, Any]:
        """Return what card and check follow from."""
        return {"model": model_hash(self.out), "figures": self._figures(), "about": dict(self.about)}

    def problem(self) -> str | None:
        """Return what is wrong with the export on disk."""
        lacking = [name for name in (*_FILES, _CARD) if not (self.out / name).is_file()]
        lacking += [] if (self.home / EXPORT).is_file() else [EXPORT]
        lacking += [str(self.onnx / RECORD)] if self.onnx and not (self.onnx / RECORD).is_file() else []
        return f"{lacking[0]} is missing" if lacking else None

    def begin(self) -> dict[str, Any]:
        """Return facts to note before it runs."""
        return {}

    def run(self, begun: Mapping[str, Any] | None) -> dict[str, Any]:
        """Check, write the card, and list what there is in ``export.json``."""
        checked = check_stock(self.out)
        store = ModelStore.open(self.out)
        figures = self._figures()
        card = {
            "parameters": f"{checked['parameters']:,}",
            "domains": ", ".join(store.state().get("domains", [])),
            **self.about,
            **{f"bits per byte, {name}, test": f"{value:.3f}" for name, value in figures.items()},
        }
        with store.staging() as staged:
            (staged / _CARD).write_text(model_card(self.out.resolve().name, card), encoding="utf-8")
            written = {"precision": checked["precision"], **({"onnx": str(self.onnx)} if self.onnx else {})}
            generation = store.commit(staged, {"event": "export", "to": "huggingface", **written})
        files = {name: facts for name, facts in store.files().items() if "/" not in name}
        result = {"format": "huggingface", "checked_with": checked["with"], "generation": generation}
        progress.note(f"  {self.out} is a Hugging Face directory: {checked['with']}")
        if self.onnx is not None:
            update_onnx(self.out, self.onnx)
            result["onnx"] = str(self.onnx)
        write_json(self.home / EXPORT, {**result, "files": files})
        return result

    def _figures(self) -> dict[str, float]:
        found = self.notes.done("evaluate") or {}
        return {name: score["bits_per_byte"] for name, score in found.get("domains", {}).items()}


def check_stock(out: Path) -> dict[str, Any]:
    """Check that a model directory is whole and, where transformers is installed, that it answers the same there.

    Raises:
        LifelongError: a file is missing or damaged, or transformers computes something else.
    """
    for name in _FILES:
        if not (out / name).is_file():
            raise LifelongError(
                f"the export lacks {name}", where=str(out), fix="Train again, or see `lifelong history`."
            )
    if found := ModelStore.open(out).damage():
        raise LifelongError(f"the model directory is damaged: {found[0]}", where=str(out))
    config = read_json(out / CONFIG)
    if not config.get("architectures"):
        raise LifelongError("config.json names no architecture", where=str(out / CONFIG))
    model, words = load_model(out, device="cpu", adapter=None)
    precision = _PRECISIONS.get(config.get("torch_dtype", ""))
    facts: dict[str, Any] = {"parameters": model.config.parameters, "precision": precision}
    if find_spec("transformers") is None:
        return {**facts, "with": "all files are there (transformers is not installed, so it was not tried there)"}
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()

    text = "def f(x): return 1\nThe quick brown fox."
    ids = words.encode(text)
    theirs = AutoTokenizer.from_pretrained(out, local_files_only=True).encode(text, add_special_tokens=False)
    if ids != theirs:
        raise LifelongError("transformers cuts text into other tokens than the model learned", where=str(out))
    stock: torch.nn.Module = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    stock.eval()
    row = torch.tensor([ids[: model.config.max_seq_len]])
    with torch.no_grad():
        apart = float((model(row) - stock(row).logits).abs().max())
    if not apart < _TOLERANCE:
        raise LifelongError(f"transformers computes other logits, apart by {apart:.3g}", where=str(out))
    return {**facts, "with": f"transformers loads it and computes the same (logits apart by {apart:.1g} at most)"}
