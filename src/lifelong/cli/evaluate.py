"""`lifelong evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.cli.common import Adapter, AsJson, Model, Sources, configurable, emit, note_if_alone, print_table
from lifelong.settings.prepare import EvaluateSettings

if TYPE_CHECKING:
    from lifelong.errors import LifelongError
    from lifelong.evaluate.bits import Score
    from lifelong.evaluate.routing import Excess
    from lifelong.model.base import LanguageModel
    from lifelong.text import Corpus, Document
    from lifelong.tokens.base import Tokenizer

_FIGURES = {
    "hidden tokens": "A masked-language model: 15% of the tokens are hidden; figures are over these.",
    "written text": "An encoder-decoder model: figures are over what it writes, the answers of conversations "
    "and 15% of texts.",
}


@configurable(EvaluateSettings)
def evaluate(
    model: Model,
    *,
    data: Sources | None = None,
    settings: EvaluateSettings,
    adapter: Adapter = "routed",
    as_json: AsJson = False,
) -> None:
    """Measure a model on held-out text: of --data, or else of every domain that it was taught. Of a run: its best."""
    show_scores(model, data, settings, adapter=adapter, as_json=as_json)


def show_scores(
    model: Path, data: list[str] | None, settings: EvaluateSettings, *, adapter: str = "routed", as_json: bool
) -> None:
    """Measure and print, as `evaluate` does."""
    from lifelong.evaluate.bits import objective_of, score
    from lifelong.model.directory import find_model, load_model
    from lifelong.model.seq2seq import EncoderDecoderModel
    from lifelong.progress import task

    texts = _texts(data, settings) if data else _domains(find_model(model), settings.split)
    loaded, tokenizer = load_model(model, device=settings.device, adapter=adapter)
    note_if_alone(loaded, settings)
    if settings.generation.on and not isinstance(loaded, EncoderDecoderModel):
        loaded.config.require_causal("write samples")
    scores: dict[str, Score] = {}
    for name, documents in texts.items():
        with task(f"Evaluating {name}") as shown:
            scores[name] = score(
                loaded,
                tokenizer,
                documents,
                sequence_length=settings.sequence_length,
                max_bytes=settings.max_bytes,
                fixed_share=settings.fixed_share,
                progress=shown,
            )
    total = _pool(list(scores.values()))
    objective = objective_of(loaded)
    result: dict[str, Any] = {"split": settings.split, "objective": objective, **total.to_dict()}
    if not data:
        result["domains"] = {name: found.to_dict() for name, found in scores.items()}
    if settings.generation.on:
        result["samples"] = _samples(loaded, tokenizer, settings)

    def show() -> None:
        rows = []
        for name, found in scores.items():
            rows += _rows(name, found)
        if len(scores) > 1:
            rows += _rows("all", total)
        if objective in _FIGURES:
            print(_FIGURES[objective])
        print_table(["text", "bits/byte", "± s.e.", "loss", "perplexity", "correct", "tokens", "bytes"], rows)
        if total.excess is not None:
            print(_promise(total.excess))
        for one in result.get("samples", []):
            for number, text in enumerate(one["texts"], start=1):
                print(f"--- {one['prompt']} ({number})\n{text}")

    emit(result, as_json=as_json, show=show)


def _samples(model: LanguageModel, tokenizer: Tokenizer, settings: EvaluateSettings) -> list[dict[str, Any]]:
    """Return what the model writes after each prompt; with none, after nothing."""
    from lifelong.generate.engine import generate

    sampling = {**settings.generation.sampling(), "seed": settings.seed, "fixed_share": settings.fixed_share}
    return [
        {"prompt": prompt, "texts": generate(model, tokenizer, prompt, **sampling)}
        for prompt in settings.generation.prompts or ("",)
    ]


def _texts(data: list[str], settings: EvaluateSettings) -> dict[str, Sequence[Document]]:
    from lifelong.text import open_corpus

    corpus = open_corpus(data, seed=settings.seed)
    documents = corpus.split(settings.split)
    if not len(documents):
        raise _nothing_held_out(data, corpus, settings.split)
    return {settings.split: documents}


def _nothing_held_out(data: list[str], corpus: Corpus, split: str) -> LifelongError:
    """Return why a split holds nothing: mostly, there is too little text to hold some of it out."""
    from lifelong.errors import LifelongError
    from lifelong.text.splitting import SPLITS
    from lifelong.text.stream import LONG_IF_ALONE

    counts = {name: len(corpus.split(name)) for name in SPLITS if name != split}
    fullest = max(counts, key=lambda name: counts[name])
    held = f"the {split} split of this text is empty"
    if (total := sum(counts.values())) < len(SPLITS):
        size = sum(document.bytes for name in counts for document in corpus.split(name))
        held += f": {size:,} bytes in {total} document{'s' * (total > 1)} are too little to hold some out"
    return LifelongError(
        f"{held} ({', '.join(f'{name} {count:,}' for name, count in counts.items())})",
        where=", ".join(data),
        fix=f"Measure what there is with --split {fullest}; or give {len(SPLITS)} documents, or one text of more than "
        f"{LONG_IF_ALONE:,} bytes, which is cut into several.",
    )


def _domains(place: Path, split: str) -> dict[str, Sequence[Document]]:
    from lifelong.errors import LifelongError
    from lifelong.learn.held import read_slices
    from lifelong.model.store import ModelStore

    if split == "train":
        raise LifelongError("a model directory keeps no train split", fix="Give the text with --data.")
    found = read_slices(place, list(ModelStore.open(place).state().get("domains", [])), split)
    if not found:
        raise LifelongError(f"this model carries no {split} text of its own", where=str(place), fix="Give --data.")
    return found


def _pool(scores: list[Score]) -> Score:
    """Return the score over all documents, also of each expert alone."""
    from lifelong.evaluate.bits import Score
    from lifelong.evaluate.routing import Excess

    excess = [found.excess for found in scores if found.excess is not None]
    return Score(
        nats=sum(found.nats for found in scores),
        tokens=sum(found.tokens for found in scores),
        bytes=sum(found.bytes for found in scores),
        correct=sum(found.correct for found in scores),
        documents=tuple(document for found in scores for document in found.documents),
        experts={name: _pool([found.experts[name] for found in scores]) for name in scores[0].experts},
        excess=reduce(Excess.joined, excess) if excess else None,
    )


def _promise(excess: Excess) -> str:
    """Return what routing can cost a text at most, and did, in words."""
    from lifelong.evaluate.routing import bound_bits

    (bits, bound), (token, change) = excess.worst, excess.price
    start = bound_bits(excess.experts)
    share = f", with a fixed share of {excess.fixed_share:g}" if excess.fixed_share else ""
    lines = [
        f"{excess.experts} experts answered together{share}. "
        f"Beside the expert that suits it best, that cost a document {bits:.2f} bits in all at worst.",
        f"A text can cost {start:.2f} bits in all more than under that expert, at most.",
    ]
    if excess.fixed_share:
        lines[1:] = [
            f"A text can cost {start:.2f} bits in all and {token:.3g} bits a token more than under that expert, "
            f"at most: {bound:.2f} bits, if it is as long as this document.",
            f"Beside the best sequence of experts, every change of topic costs {change:.2f} bits more, at most.",
        ]
    if not excess.whole:
        lines.append("Of conversations only the answers are scored: for them the bound does not hold to the letter.")
    return "\n".join(lines)


def _rows(name: str, found: Score) -> list[list[str]]:
    rows = [_row(name, found), *(_row(f"  {expert} alone", alone) for expert, alone in found.experts.items())]
    if found.excess is not None:
        rows.append(["  best of each text", f"{found.oracle_bits_per_byte:.3f}", *[""] * 6])
    return rows


def _row(name: str, found: Score) -> list[str]:
    error = found.standard_error
    return [
        name,
        f"{found.bits_per_byte:.3f}",
        "" if error is None else f"{error:.3f}",
        f"{found.loss:.3f}",
        f"{found.perplexity:,.1f}",
        f"{found.token_accuracy:.1%}",
        f"{found.tokens:,}",
        f"{found.bytes:,}",
    ]
