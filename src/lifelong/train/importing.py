"""`lifelong import`: a model made elsewhere becomes a model directory of ours."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.locks import writer_lock
from lifelong.model.directory import find_model, fingerprint, is_model_directory
from lifelong.model.gguf_file import gguf_to_directory
from lifelong.model.hub import base_name
from lifelong.model.outside import load_outside
from lifelong.model.store import HOME, ModelStore
from lifelong.text.corpus import Corpus
from lifelong.train.founding import commit_model
from lifelong.train.start import Origin


@dataclass(frozen=True)
class Imported:
    """What was imported: the model directory, its size, and every change in a sentence."""

    out: Path
    source: Path
    parameters: int
    vocab_size: int
    max_seq_len: int
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {**self.__dict__, "out": str(self.out), "source": str(self.source)}


def import_model(path: Path, out: Path) -> Imported:
    """Read a GGUF file or a Hugging Face directory, and write it as a model directory with history.

    Raises:
        LifelongError: ``path`` is no model, ``out`` is not empty, or the family cannot be computed here.
    """
    if not path.exists():
        raise LifelongError("no such file or directory", where=str(path), fix="Name a GGUF file or a model directory.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LifelongError("the output is not empty; it is never overwritten", where=str(out), fix="Choose another.")
    with tempfile.TemporaryDirectory(prefix="lifelong-import-") as folder:
        place, notes = path, []
        if path.is_file():
            place = Path(folder)
            notes = gguf_to_directory(path, place)
        model, tokenizer, more = load_outside(place)
    notes += more
    if path.is_dir() and (state := ModelStore.open(find_model(path)).state()):
        if state.get("base_fingerprint") in (None, fingerprint(model)):
            raise LifelongError(
                "this is a model directory of ours already", where=str(path), fix="Copy it, or use it where it is."
            )
        notes.append("its weights were changed since its last lesson: history, memory and adapters stay behind")
    for line in notes:
        progress.note(f"note: {line}")
    name = path.stem if path.is_file() else base_name(path)
    with writer_lock(out / HOME):
        event = {"event": "import", "from": "base", "base": name, "notes": notes}
        commit_model(out, model, tokenizer, Corpus(), Origin("base", pretrained=name), domain=None, event=event)
    assert is_model_directory(out)
    config = model.config
    return Imported(out, path, config.parameters, config.vocab_size, config.max_seq_len, notes)
