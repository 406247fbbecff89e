"""What ``--to onnx`` writes: graphs with dynamic axes, the weights beside them, and the tokenizer's files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.export.source import CAUSAL, MASKED, Source
from lifelong.model.directory import write_model_files
from lifelong.settings.model import ModelConfig

_BUILDER = "onnxruntime_genai.models.builder"
_HEADS = 16  # GroupQueryAttention, of which the builder makes use, refuses other sizes when it runs
MODEL, ENCODER, DECODER = "model.onnx", "encoder_model.onnx", "decoder_model.onnx"


def write_onnx_directory(source: Source, staged: Path, precision: str, title: str) -> tuple[dict[str, Any], list[str]]:
    """Write the files; returns facts for the record, and remarks.

    Raises:
        LifelongError: the precision or the size of a head is one that this family cannot have, or the builder fails.
    """
    if source.kind == CAUSAL and isinstance(source.model.config, ModelConfig):
        head = source.model.config.head_dim
        if head % _HEADS:
            raise LifelongError(
                f"onnxruntime's attention has heads of a multiple of {_HEADS} numbers, and this model's have {head}",
                where=str(source.place),
                fix="Take --to gguf or --to huggingface.",
            )
        _build(source, staged, precision)
        return {"file": MODEL, "genai": True, "head_size": head}, []
    if precision != "fp32":
        raise LifelongError(
            f"ONNX in {precision} is made of llama and qwen3 models only",
            where=str(source.place),
            fix="Leave --precision out.",
        )
    from lifelong.export import onnx_graphs

    with tempfile.TemporaryDirectory(prefix="lifelong-onnx-") as folder:
        write_model_files(source.model, source.tokenizer, Path(folder))
        for file in Path(folder).iterdir():
            if file.suffix != ".safetensors":
                (staged / file.name).write_bytes(file.read_bytes())
    if source.kind == CAUSAL:
        head = onnx_graphs.write_decoder(source.model, staged / MODEL)
        return {"file": MODEL, "genai": False, "head_size": head}, []
    if source.kind == MASKED:
        onnx_graphs.write_encoder(source.model, staged / MODEL)
        return {"file": MODEL, "genai": False}, []
    onnx_graphs.write_encoder_decoder(source.model, staged / ENCODER, staged / DECODER)
    return {"file": ENCODER, "decoder": DECODER, "genai": False}, []


def _build(source: Source, staged: Path, precision: str) -> None:
    """Let onnxruntime-genai's builder write a decoder with a key-value cache; it is a program, so it is run as one."""
    from importlib.util import find_spec

    if find_spec("onnxruntime_genai") is None:
        raise LifelongError("onnxruntime_genai is not installed", fix="pip install 'lifelong[onnx]'")
    with tempfile.TemporaryDirectory(prefix="lifelong-onnx-") as folder:
        stock, cache = Path(folder) / "model", Path(folder) / "cache"
        write_model_files(source.model, source.tokenizer, stock)
        command = [sys.executable, "-m", _BUILDER, "-i", str(stock), "-o", str(staged), "-p", precision, "-e", "cpu"]
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        done = subprocess.run(
            [*command, "-c", str(cache)], capture_output=True, text=True, check=False, env={**os.environ, **offline}
        )
        if done.returncode or not (staged / MODEL).is_file():
            reason = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
            raise LifelongError(
                f"onnxruntime-genai's builder failed: {reason[:300]}",
                where=str(source.place),
                fix="Try another --precision, or --to huggingface.",
            )
    # The builder passes the tokenizer through transformers, which writes down less than there is.
    source.tokenizer.write_files(staged, mask_id=None)
