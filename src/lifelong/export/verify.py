"""Whether an export answers as the trained model does, tried in the program that it is for."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.export.evidence import Evidence
from lifelong.export.runtimes import GREEDY, Runtime, Trained, Words, missing_runtime, open_runtime, read_record
from lifelong.export.source import Source
from lifelong.model.adapters import detach_adapter, load_adapter

VERIFICATION = "verification.json"
_WRITTEN = 32  # tokens written greedily after each prompt
# How far a token's loss (nats) may be from the trained model's: on average, and at most. The first is what the number
# format does to a model (SmolLM2-135M: fp32 0.0001, fp16 0.002, bf16 0.013, q8_0 and int8 0.07, q4_0 0.6; our own small
# ones are below that) with room for others; a wrong layout is off by whole nats.
LIMITS: dict[str, tuple[float, float]] = {
    "fp32": (1e-3, 1e-2),
    "fp16": (1e-2, 0.1),
    "bf16": (0.05, 1.0),
    "q8_0": (0.15, 3.0),
    "int8": (0.15, 3.0),
    "q4_0": (1.0, math.inf),
    "int4": (1.0, math.inf),
}


@dataclass(frozen=True)
class Verification:
    """What was found out about an export.

    ``verified`` is None where its program is not installed; ``problems`` are sentences, none where it is as trained.
    """

    verified: bool | None
    runtime: str
    problems: list[str]
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        found = asdict(self)
        facts = found.pop("facts")
        return {**found, **facts}


def verify(path: Path, source: Source, evidence: Evidence) -> Verification:
    """Compare the export at ``path`` with the model it was made of.

    Raises:
        LifelongError: the directory is no export, or its program cannot load it.
    """
    record = read_record(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if lacking := missing_runtime(record):
        facts = {"install": lacking.install, "bytes": size}
        return Verification(None, f"{lacking.package} is not installed", [], facts)
    trained = Trained(source.model, source.tokenizer)
    with open_runtime(path) as runtime, progress.task(f"Verifying in {runtime.name}") as shown:
        words = _compare_words(trained, runtime, evidence)
        shown.update(note="ids")
        losses = _compare_losses(trained, runtime, evidence, record["precision"])
        written = _compare_written(trained, runtime, evidence, source) if evidence.prompts else {}
        name = runtime.name
    checked: dict[str, Any] = {}
    facts = {**words, **losses, **written, "bytes": size, "held_out": evidence.held_out, "adapters": checked}
    problems = _problems(facts, record["precision"])
    for adapter in record["adapters_beside"]:
        found = _compare_adapter(path, record, source, evidence, adapter)
        checked[adapter] = found
        problems += [f"with the adapter {adapter}: {problem}" for problem in found.pop("problems")]
    return Verification(not problems, name, problems, facts)


def _compare_adapter(
    path: Path, record: dict[str, Any], source: Source, evidence: Evidence, adapter: str
) -> dict[str, Any]:
    """Compare the export under an adapter that lies beside it with the model under that adapter."""
    if lacking := missing_runtime(record, adapter=True):
        return {"verified": None, "install": lacking.install, "problems": []}
    load_adapter(source.model, source.adapter_path(adapter))
    try:
        trained = Trained(source.model, source.tokenizer)
        with open_runtime(path, adapter=adapter) as runtime, progress.task(f"Verifying {adapter} in {runtime.name}"):
            losses = _compare_losses(trained, runtime, evidence, record["precision"])
    finally:
        detach_adapter(source.model)
    problems = _loss_problems(losses, record["precision"])
    return {"verified": not problems, **losses, "problems": problems}


def _compare_words(trained: Runtime, runtime: Runtime, evidence: Evidence) -> dict[str, Any]:
    pairs = zip(evidence.strings, trained.encode(evidence.strings), runtime.encode(evidence.strings), strict=True)
    other = [(text, ours, theirs) for text, ours, theirs in pairs if ours != theirs]
    found: dict[str, Any] = {"strings": len(evidence.strings), "strings_cut_otherwise": len(other)}
    if other:
        text, ours, theirs = min(other, key=lambda case: len(case[0]))
        found["example"] = {"text": text[:200], "trained": ours[:50], "exported": theirs[:50]}
    if runtime.aside is not None:
        found["aside"] = _compare_aside(runtime.aside, evidence.strings, trained)
    return found


def _compare_aside(words: Words, strings: list[str], trained: Runtime) -> dict[str, Any]:
    """Return of how many texts another tokenizer gives other ids, and the shortest; or why it gives none."""
    try:
        pairs = zip(strings, trained.encode(strings), words.encode(strings), strict=True)
    except LifelongError as error:
        return {"name": words.name, "refuses": error.what}
    other = [text for text, ours, theirs in pairs if ours != theirs]
    return {"name": words.name, "strings_cut_otherwise": len(other), "example": min(other, key=len, default="")[:200]}


def _compare_losses(trained: Runtime, runtime: Runtime, evidence: Evidence, precision: str) -> dict[str, Any]:
    ours, theirs = [], []
    for window in evidence.windows:
        ours += trained.losses(window)
        theirs += runtime.losses(window)
    apart = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
    bits = math.log(2) * max(evidence.spelled, 1)
    return {
        "tokens": len(ours),
        "loss_apart_mean": math.fsum(apart) / len(apart),
        "loss_apart_max": max(apart) if all(map(math.isfinite, apart)) else math.nan,
        "limits": list(LIMITS[precision]),
        "bits_per_byte_trained": math.fsum(ours) / bits,
        "bits_per_byte_exported": math.fsum(theirs) / bits,
        "bits_per_byte_lost": (math.fsum(theirs) - math.fsum(ours)) / bits,
    }


def _compare_written(trained: Runtime, runtime: Runtime, evidence: Evidence, source: Source) -> dict[str, Any]:
    ends = {source.tokenizer.eos_id, source.tokenizer.end_of_turn_id}
    same, seconds, count = 0, 0.0, 0
    for prompt in evidence.prompts:
        room = min(_WRITTEN, source.model.config.max_seq_len - len(prompt))
        ours = list(trained.stream(prompt, room, GREEDY, ends=ends))
        started = time.perf_counter()
        theirs = list(runtime.stream(prompt, room, GREEDY, ends=ends))
        seconds += time.perf_counter() - started
        same, count = same + (ours == theirs), count + len(theirs)
    found: dict[str, Any] = {"texts": len(evidence.prompts), "texts_written_the_same": same}
    return {**found, "tokens_per_second": count / seconds} if count else found


def _problems(facts: dict[str, Any], precision: str) -> list[str]:
    found = []
    if wrong := facts["strings_cut_otherwise"]:
        found.append(f"{wrong} of {facts['strings']} texts have other token ids, such as {facts['example']['text']!r}")
    found += _loss_problems(facts, precision)
    if precision == "fp32" and facts.get("texts_written_the_same") != facts.get("texts"):
        found.append(f"{facts['texts'] - facts['texts_written_the_same']} of {facts['texts']} texts go on otherwise")
    return found


def _loss_problems(facts: dict[str, Any], precision: str) -> list[str]:
    mean, most = facts["limits"]
    if not facts["loss_apart_mean"] <= mean:
        return [
            f"the loss of a token is {facts['loss_apart_mean']:.3g} nats from the trained model's on average; "
            f"{precision} allows {mean:g}"
        ]
    if not facts["loss_apart_max"] <= most:
        return [f"the loss of a token is {facts['loss_apart_max']:.3g} nats off; {precision} allows {most:g}"]
    return []
