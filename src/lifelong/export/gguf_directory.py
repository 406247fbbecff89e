"""What ``--to gguf`` writes: the model, its adapters as LoRA files, and a Modelfile for Ollama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifelong.export.gguf_writer import write_gguf, write_lora
from lifelong.export.llama_cpp import lora_name
from lifelong.export.runtimes import TOKENIZER
from lifelong.export.source import Source
from lifelong.files import write_text
from lifelong.model.adapters import detach_adapter, load_adapter
from lifelong.tokens.special import SpecialTokens


def write_gguf_directory(source: Source, staged: Path, precision: str, title: str) -> tuple[dict[str, Any], list[str]]:
    """Write the files; returns facts for the record, and remarks."""
    where = str(source.place)
    file = f"{title}-{precision}.gguf"
    notes = write_gguf(source.model, source.tokenizer, staged / file, precision, name=title, where=where)
    for name in source.beside:
        load_adapter(source.model, source.adapter_path(name))
        write_lora(source.model, staged / lora_name(name), name=name, where=where)
        detach_adapter(source.model)
    source.tokenizer.write_files(staged / TOKENIZER, mask_id=None)  # for `lifelong generate --engine gguf`
    write_text(staged / "Modelfile", modelfile(file, source.beside, source.tokenizer.special))
    return {"file": file, "adapters": [lora_name(name) for name in source.beside]}, notes


def modelfile(file: str, adapters: list[str], special: SpecialTokens) -> str:
    """Return a Modelfile: ``ollama create NAME -f Modelfile``. Ollama knows Go's templates, not Jinja's."""
    opening = {role: special.role(role) + special.after_opening(role) for role in ("system", "user", "assistant")}
    end = special.end_of_turn + special.after_turn
    turns = "".join(
        f'{{{{ if eq .Role "{role}" }}}}{text}{{{{ .Content }}}}{end}{{{{ end }}}}' for role, text in opening.items()
    )
    template = f"{{{{ range .Messages }}}}{turns}{{{{ end }}}}{opening['assistant']}"
    # Ollama takes one adapter; the others stand here to be chosen.
    lines = [f"FROM ./{file}"]
    lines += [f"{'' if len(adapters) == 1 else '# '}ADAPTER ./{lora_name(name)}" for name in adapters]
    lines += [
        f'TEMPLATE """{template}"""',
        f'PARAMETER stop "{special.end_of_turn}"',
        f'PARAMETER stop "{special.end_of_text}"',
    ]
    lines += ["PARAMETER temperature 0.8", "PARAMETER top_k 50", "PARAMETER top_p 0.9"]
    return "\n".join(lines) + "\n"
