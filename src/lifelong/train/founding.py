"""What a trained model remembers of its text: frozen gate and test slices, and a sample to replay."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.evaluate.matrix import Matrix
from lifelong.files import link_file, write_json, write_text
from lifelong.model.base import LanguageModel
from lifelong.model.directory import GENERATION, fingerprint, model_card, write_model_files
from lifelong.model.store import HOME, STATE, ModelStore
from lifelong.model.weights import TORCH_WEIGHTS
from lifelong.text.cleaning import content_hash
from lifelong.text.corpus import Corpus
from lifelong.text.document import Document
from lifelong.text.memory import ReplayMemory, write_slice
from lifelong.tokens.base import Tokenizer
from lifelong.train.start import Origin

CAPACITY = 1000  # examples of 4 kB in a replay memory
MEMORY, _SLICES = f"{HOME}/memory/examples.jsonl", f"{HOME}/domains"
FISHER = f"{HOME}/fisher.safetensors"  # see `lifelong.learn.fisher`
# Files that a model made elsewhere may have, and that would contradict those written here.
_STALE = (
    *(TORCH_WEIGHTS, "spm.model", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"),
)


def slice_path(domain: str, split: str) -> str:
    """Return where a domain's frozen slice lies in a model directory."""
    return f"{_SLICES}/{domain}/{split}.jsonl"


def learned_path(domain: str) -> str:
    """Return where the hashes of the documents that a domain was taught with lie in a model directory."""
    return f"{_SLICES}/{domain}/learned.txt"


def stage_domain(
    staged: Path, past: Path | None, corpus: Corpus, domain: str | None, *, capacity: int, seed: int = 0
) -> dict[str, Any]:
    """Stage a domain's gate and test slices, the hashes of what it was taught with, and the replay memory with a share
    for it; returns facts for the state.

    A domain taught before keeps the slices frozen then: those of ``past``, the directory that the model comes from.
    Where ``domain`` is None there is no text to remember, and the memory goes on as it is.
    """
    memory = ReplayMemory(capacity, seed) if past is None else ReplayMemory.load(past / MEMORY, capacity, seed)
    held = memory.documents()
    memory.shrink()
    smaller = len(memory.documents()) < len(held)  # than what it held needs; a new domain takes its share in any case
    if domain is not None:
        memory.add(corpus.train, domain)
        learned = {content_hash(document) for document in corpus.train}
        if past is not None and (past / learned_path(domain)).is_file():
            learned |= set((past / learned_path(domain)).read_text(encoding="ascii").split())
        write_text(staged / learned_path(domain), "".join(f"{digest}\n" for digest in sorted(learned)))
    if smaller:
        _say_what_goes(held, memory)
    memory.save(staged / MEMORY)
    left_out = {}
    for split in ("gate", "test"):
        # A slice is frozen once there is text in it: the first text of a domain can be too small for one.
        if domain is not None and (past is None or not _holds_text(past / slice_path(domain, split))):
            left_out[split] = write_slice(corpus.split(split), staged / slice_path(domain, split), seed=seed)
    return {"memory": memory.counts(), "left_out_of_slices": left_out}


def _say_what_goes(held: list[Document], memory: ReplayMemory) -> None:
    """Say how many examples a memory lets go that has less room than it had."""
    kept = {id(example) for example in memory.documents()}
    gone = Counter(example.domain for example in held if id(example) not in kept)
    if gone:
        named = ", ".join(f"{count:,} of '{domain}'" for domain, count in gone.items())
        progress.note(
            f"note: the replay memory has room for {memory.capacity:,} examples of 4 kB now, "
            f"and lets go of some that it held: {named}"
        )


def _holds_text(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def commit_model(
    out: Path,
    model: LanguageModel,
    tokenizer: Tokenizer,
    corpus: Corpus,
    origin: Origin,
    *,
    domain: str | None,
    event: dict[str, Any],
    matrix: Matrix | None = None,
    capacity: int = CAPACITY,
) -> int:
    """Make trained weights the state in force of the model directory ``out``; returns the generation's number.

    What the model remembers goes on from where its weights come from. Earlier adapters belong to earlier weights and
    are taken out, and so are a stock directory's files in other formats, which would be stale: the history keeps their
    generation.
    """
    store = ModelStore.open(out)
    if store.adopt():
        progress.note(f"What lay in {out} is kept as the first state of its history.")
    past = origin.past
    domains = _domains(origin, domain)
    with store.staging() as staged:
        write_model_files(model, tokenizer, staged)
        elsewhere = past is None or past.resolve() != out.resolve()
        if past and elsewhere:
            _bring(past, staged, shutil.copy2)
        facts = stage_domain(staged, past, corpus, domain, capacity=capacity)
        _stage_state(staged, model, origin, domains, facts["memory"], matrix)
        _stage_card(staged, out.name, model, origin, domains, event["event"])
        gone = (f"{HOME}/adapters/", GENERATION, *_STALE, *((f"{_SLICES}/", MEMORY, FISHER) if elsewhere else ()))
        return store.commit(staged, {**event, **facts}, remove=gone)


def _bring(past: Path, into: Path, copy: Callable[[str | Path, str | Path], object]) -> None:
    """Bring what weights keep of their past along: the slices of what they know, and what EWC knows of their needs."""
    if (past / _SLICES).is_dir():
        shutil.copytree(past / _SLICES, into / _SLICES, copy_function=copy)
    if (past / FISHER).is_file():
        (into / FISHER).parent.mkdir(parents=True, exist_ok=True)
        copy(past / FISHER, into / FISHER)


class Beside:
    """What stands beside the weights in every model that a run keeps: slices and replay memory, made once for all."""

    def __init__(self, place: Path, corpus: Corpus, origin: Origin, domain: str) -> None:
        self._place, self._corpus, self._domain = place, corpus, domain
        self._memory: dict[str, int] | None = None
        self.origin = origin
        self.domains = _domains(origin, domain)

    def put(self, into: Path) -> dict[str, int]:
        """Link it into a directory; returns how many documents of each domain the memory holds."""
        if self._memory is None:
            shutil.rmtree(self._place, ignore_errors=True)
            past = self.origin.past
            if past:
                _bring(past, self._place, link_file)
            facts = stage_domain(self._place, past, self._corpus, self._domain, capacity=CAPACITY)
            self._memory = dict(facts["memory"])
        shutil.copytree(self._place, into, copy_function=link_file, dirs_exist_ok=True)
        return self._memory


def write_whole_model(
    place: Path, beside: Beside, model: LanguageModel, write_model: Callable[[Path], None], title: str
) -> None:
    """Write a model directory that stands on its own: weights, tokenizer, state, card, slices and replay memory."""
    write_model(place)
    memory = beside.put(place)
    _stage_state(place, model, beside.origin, beside.domains, memory, None)
    _stage_card(place, title, model, beside.origin, beside.domains, "train")


def write_model_alone(place: Path, model: LanguageModel, tokenizer: Tokenizer, origin: Origin, title: str) -> None:
    """Write a model directory without slices and memory: its weights, tokenizer, state and card."""
    write_model_files(model, tokenizer, place)
    domains = _domains(origin, None)
    _stage_state(place, model, origin, domains, {}, None)
    _stage_card(place, title, model, origin, domains, "train")


def _domains(origin: Origin, domain: str | None) -> list[str]:
    known: list[str] = ModelStore.open(origin.past).state().get("domains", []) if origin.past else []
    return known if domain is None or domain in known else [*known, domain]


def _stage_state(
    staged: Path,
    model: LanguageModel,
    origin: Origin,
    domains: list[str],
    memory: dict[str, int],
    matrix: Matrix | None,
) -> None:
    state = {
        "format": 1,
        "base_fingerprint": fingerprint(model),
        "domains": domains,
        "adapters": [],
        "peak_learning_rate": max(origin.learning_rate, origin.peak_learning_rate),
        "memory": memory,
        **({"pretrained": origin.pretrained} if origin.pretrained else {}),
        **({"matrix": matrix.to_dict()} if matrix else {}),
    }
    write_state(staged, state)


def _stage_card(staged: Path, title: str, model: LanguageModel, origin: Origin, domains: list[str], event: str) -> None:
    card = {
        "parameters": f"{model.config.parameters:,}",
        "domains": ", ".join(domains),
        "last event": event,
        **({"base": origin.pretrained} if origin.pretrained else {}),
    }
    (staged / "README.md").write_text(model_card(title, card), encoding="utf-8")


def write_state(staged: Path, state: dict[str, Any]) -> None:
    """Stage ``lifelong/state.json``."""
    write_json(staged / STATE, state)
