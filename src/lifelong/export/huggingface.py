"""What ``--to huggingface`` and ``--to inference`` write: stock files and nothing else; adapters as PEFT reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lifelong.evaluate.matrix import Matrix
from lifelong.export.source import Source
from lifelong.files import read_json, write_json, write_text
from lifelong.model.directory import CONFIG, model_card, write_model_files
from lifelong.model.store import ModelStore
from lifelong.model.weights import WEIGHTS, save_tensors

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ADAPTERS = "adapters"


def write_huggingface(source: Source, staged: Path, precision: str, title: str) -> tuple[dict[str, Any], list[str]]:
    """Write a directory that transformers and vLLM load; returns facts for the record, and remarks."""
    _write_weights(source, staged, precision)
    for name in source.beside:
        shutil.copytree(source.adapter_path(name), staged / ADAPTERS / name)
    write_text(staged / "README.md", _card(source, title, precision))
    if not source.beside:
        return {}, []
    named = ", ".join(source.beside)
    return {}, [f"the weights are the base's; the adapters lie beside them in {ADAPTERS}/: {named}"]


def write_inference(source: Source, staged: Path, precision: str, title: str) -> tuple[dict[str, Any], list[str]]:
    """Write configuration, weights, tokenizer and a card; returns facts for the record, and remarks."""
    _write_weights(source, staged, precision)
    facts = {"parameters": f"{source.model.config.parameters:,}", **_folded(source)}
    write_text(staged / "README.md", model_card(title, facts))
    return {}, []


def _write_weights(source: Source, staged: Path, precision: str) -> None:
    import torch
    from safetensors.torch import load_file

    write_model_files(source.model, source.tokenizer, staged)
    if precision == "fp32":
        return
    kind = getattr(torch, _DTYPES[precision])
    state = {name: tensor.to(kind) for name, tensor in load_file(staged / WEIGHTS).items()}
    save_tensors(state, staged / WEIGHTS, metadata={"format": "pt"})
    # transformers 4 reads torch_dtype, 5 reads dtype first.
    write_json(staged / CONFIG, {**read_json(staged / CONFIG), "torch_dtype": _DTYPES[precision]})


def _folded(source: Source) -> dict[str, str]:
    return {"adapter": f"'{source.folded}' is folded into the weights"} if source.folded else {}


def _card(source: Source, title: str, precision: str) -> str:
    """Return the model card: what it is, what it was taught, when, and what that did to every domain."""
    config, state = source.model.config, source.state
    facts: dict[str, Any] = {
        "parameters": f"{config.parameters:,}",
        "context": f"{config.max_seq_len:,} tokens",
        "vocabulary": f"{config.vocab_size:,}",
        "precision": precision,
        **_folded(source),
        **({"adapters": ", ".join(source.beside)} if source.beside else {}),
        **({"base": state["pretrained"]} if state.get("pretrained") else {}),
        "domains": ", ".join(state.get("domains", [])) or "none recorded",
        "fingerprint": source.fingerprint(),
    }
    parts = [model_card(title, facts), _sessions(source), _matrix(state), _use(source)]
    return "\n".join(part for part in parts if part)


def _sessions(source: Source) -> str:
    rows = []
    for event in ModelStore.open(source.place).history():
        what = " ".join(str(event[key]) for key in ("event", "domain") if event.get(key))
        accepted = event.get("accepted")
        kept = "" if accepted is None else "kept" if accepted else "undone"
        rows.append(f"| {event.get('time', '')} | {what} | {kept} |")
    if not rows:
        return ""
    return "\n".join(["## Sessions", "", "| when | what | |", "|---|---|---|", *rows, ""])


def _matrix(state: dict[str, Any]) -> str:
    if not state.get("matrix"):
        return ""
    matrix = Matrix.from_dict(state["matrix"])
    lines = [
        "## Bits per byte on held-out text",
        "",
        "A row for each session, a column for each domain; lower is better.",
        "",
        "| after | " + " | ".join(matrix.domains) + " |",
        "|---|" + "---:|" * len(matrix.domains),
    ]
    for label, row in zip(matrix.sessions, matrix.bpb, strict=True):
        lines.append(f"| {label} | " + " | ".join("" if value is None else f"{value:.3f}" for value in row) + " |")
    figures = {"average": matrix.average, "backward transfer": matrix.bwt, "forward transfer": matrix.fwt}
    said = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
    return "\n".join([*lines, "", f"In bits per byte: {said}." if said else "", ""])


def _use(source: Source) -> str:
    classes = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}
    kind = classes.get(source.kind, "AutoModelForSeq2SeqLM")
    lines = [
        "## Use",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {kind}",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("PATH")',
        f'model = {kind}.from_pretrained("PATH")',
    ]
    if source.beside:
        lines += [
            "",
            "from peft import PeftModel",
            f'model = PeftModel.from_pretrained(model, "PATH/{ADAPTERS}/{source.beside[0]}")',
        ]
    lines.append("```")
    if source.beside:
        modules = " ".join(f"{name}=PATH/{ADAPTERS}/{name}" for name in source.beside)
        lines += ["", f"With vLLM: `vllm serve PATH --enable-lora --lora-modules {modules}`"]
    return "\n".join([*lines, ""])
