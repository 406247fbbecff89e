"""What all old domains need of a model's plain weights, as one running Fisher diagonal: online EWC.

When domains join, F* ← γ·F* + F_new (Schwarz et al. 2018, "Progress & Compress", arXiv:1805.06370, on online EWC),
where F_new is the sum of theirs, each estimated once, at the weights that had just learned it. A lesson is pulled by F*
towards the weights before it, and no others are kept. So a domain stays guarded when none of its text is. A domain that
is taught again, with all weights, joins again.

It lies in ``lifelong/fisher.safetensors``: for every block matrix a bfloat16 tensor of its shape, and in the header the
domains that are in it. Like every file of a model directory it belongs to a generation, and comes back with it.

It is of the *plain weights*. An adapter leaves these as they are: its lesson is pulled by F*, so that the adapter does
little harm to what the weights know, but adds nothing to it and lets nothing decay. A domain that only an adapter knows
joins when it is consolidated with EWC. A domain of the weights that is not in it joins at the next session, as long as
its text is remembered: those of a directory without the file, and those that `lifelong train` taught.

With EWC off the file stays as it is, and nothing joins. It is then an estimate at older weights, which is all that is
left of domains without text; that γ takes back a part of it when others join is meant for just that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.learn.ewc import ElasticPull, fisher_diagonal
from lifelong.model.adapters import adapted_layers, adapter_off
from lifelong.model.base import LanguageModel
from lifelong.model.weights import save_tensors
from lifelong.settings.session import SessionSettings
from lifelong.text.memory import ReplayMemory
from lifelong.tokens.base import Tokenizer
from lifelong.tokens.loader import Batch, Loader
from lifelong.tokens.replay import replay_sources
from lifelong.tokens.rows import RowSource
from lifelong.train.founding import FISHER

# Rows of 256 tokens in a batch that it is estimated on: small batches, see `fisher_diagonal`.
_ROWS, _ROW_TOKENS = 2, 256
_DOMAINS = "domains"  # the key in the file's header
_FIX = "`lifelong rollback` brings back an earlier one; with --no-use-ewc a lesson does without."


@dataclass(frozen=True)
class RunningFisher:
    """F*: of every block matrix the diagonal, in its shape and fp32, and the domains in it, as they joined.

    ``changed`` says whether it is another than the directory holds.
    """

    diagonal: dict[str, Tensor] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    changed: bool = False

    def joined_by(self, new: RunningFisher, gamma: float) -> RunningFisher:
        """Return γ·F* + F_new; without new domains nothing decays."""
        if not new.domains:
            return self
        diagonal = {
            name: value + gamma * self.diagonal[name] if name in self.diagonal else value
            for name, value in new.diagonal.items()
        }
        return RunningFisher(diagonal, tuple(dict.fromkeys((*self.domains, *new.domains))), changed=True)

    def pull(self, model: LanguageModel, strength: float) -> ElasticPull | None:
        """Return EWC's pull towards a model's weights as they are; None where no domain is known. See `ElasticPull`."""
        if not self.domains:
            progress.note("note: EWC has nothing to hold: no text of what the weights know is remembered")
            return None
        return ElasticPull.towards_now(model, self.diagonal, strength)

    def save(self, path: Path) -> None:
        """Write the file: the same diagonal and domains always give the same bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.to("cpu", torch.bfloat16).contiguous() for name, value in self.diagonal.items()}
        save_tensors(tensors, path, metadata={_DOMAINS: json.dumps(self.domains, ensure_ascii=False)})


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Open a Fisher file: its tensors, and the domains in it."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file, tuple(json.loads((file.metadata() or {}).get(_DOMAINS, "[]")))
    except (SafetensorError, ValueError) as error:
        raise LifelongError(f"the Fisher information cannot be read: {error}", where=str(path), fix=_FIX) from None


def read_fisher(root: Path, model: LanguageModel) -> RunningFisher:
    """Return what a model directory holds; one without the file has none, of no domain.

    Raises:
        LifelongError: the file cannot be read, or is of a model of another shape.
    """
    path = root / FISHER
    if not path.is_file():
        return RunningFisher()
    with _opened(path) as (file, domains):
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    shapes = {name: layer.weight.shape for name, layer in adapted_layers(model)}
    if {name: value.shape for name, value in found.items()} != shapes:
        raise LifelongError("the Fisher information is of a model of another shape", where=str(path), fix=_FIX)
    return RunningFisher({name: value.to(model.device).float() for name, value in found.items()}, domains)


def guarded_domains(path: Path) -> list[str]:
    """Return the domains in a Fisher file; none where there is no file.

    Raises:
        LifelongError: it cannot be read.
    """
    if not path.is_file():
        return []
    with _opened(path) as (_, domains):
        return list(domains)


def _missing(memory: ReplayMemory, guarded: Collection[str], beside: Collection[str]) -> list[str]:
    """Return the domains of a memory that have to join F* before a session."""
    return [domain for domain in memory.counts() if domain not in guarded and domain not in beside]


@dataclass(frozen=True)
class Estimator:
    """Estimates what domains need of a model's plain weights, as these are when it is asked.

    Attributes:
        model: the model; an adapter that is attached to it does not count.
        tokenizer: the one it was trained with.
        settings: whether, γ, and from how many batches of each domain's text.
        cache: the folder for token caches of a run.
        length: tokens of a row at most.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    settings: SessionSettings
    cache: Path
    length: int

    def before(self, root: Path, memory: ReplayMemory, beside: Collection[str]) -> RunningFisher | None:
        """Return F* of a model directory before a session; None where EWC is off.

        Args:
            root: the model directory.
            memory: what it remembers. Domains that are not in F* yet join.
            beside: domains that only adapters know; they do not.

        Raises:
            LifelongError: see `read_fisher`.
        """
        if not self.settings.use_ewc or not self.settings.ewc_lambda:
            return None
        kept = read_fisher(root, self.model)
        missing = _missing(memory, kept.domains, beside)
        return self._joined(kept, memory.of(missing), self.cache / "replay")

    def forecast(
        self, root: Path, memory: ReplayMemory, beside: Collection[str], joining: Collection[str], token_seconds: float
    ) -> str:
        """Return in words how long `before` and `after` will take; an empty string where they estimate nothing.

        Args:
            root: the model directory.
            memory: what it remembers.
            beside: domains that only adapters know.
            joining: domains that `after` will be asked for.
            token_seconds: what a token takes to train on, with all weights.
        """
        if not self.settings.use_ewc or not self.settings.ewc_lambda:
            return ""
        count = len(_missing(memory, guarded_domains(root / FISHER), beside)) + len(joining)
        if not count:
            return ""
        tokens = count * self.settings.fisher_batches * _ROWS * min(_ROW_TOKENS, self.length)
        took = progress.spell_seconds(tokens * token_seconds)
        whose = f"{count} domains need" if count > 1 else "a domain needs"
        return f"; about {took} beside it for EWC, to find what {whose} of the weights"

    def after(self, kept: RunningFisher, taught: ReplayMemory) -> RunningFisher:
        """Return F* joined by what weights have just learned: of text that may not be kept."""
        return self._joined(kept, taught, self.cache / "fisher")

    def _joined(self, kept: RunningFisher, memory: ReplayMemory, folder: Path) -> RunningFisher:
        """Return F* joined by every domain in a memory whose text fills a row; where one does not, that is said.

        ``folder`` holds the domains' token caches, or will.
        """
        new = RunningFisher()
        for domain in memory.counts():
            length = min(_ROW_TOKENS, self.length)
            sources = replay_sources(memory.of([domain]), self.tokenizer, folder, length, 1.0)
            if sources:
                new = new.joined_by(RunningFisher(self._diagonal(sources, domain), (domain,)), 1.0)
        return kept.joined_by(new, self.settings.ewc_gamma)

    def _diagonal(self, sources: list[tuple[RowSource, float]], domain: str) -> dict[str, Tensor]:
        rows = sum(len(source) for source, _ in sources)
        seed, count = self.settings.seed, self.settings.fisher_batches
        loader = Loader(sources, batch_size=min(_ROWS, rows), seed=seed + 1)
        generator = torch.Generator(self.model.device).manual_seed(seed)
        with progress.task(f"Finding what '{domain}' needs of the weights", total=count) as shown:

            def batches() -> Iterator[Batch]:
                for number in range(count):
                    yield loader.batch(number)
                    shown.update(done=number + 1)

            with adapter_off(self.model):
                return fisher_diagonal(self.model, batches(), generator)
