"""Several experts that answer as one: a Bayes mixture over whole documents.

With K adapters beside the base, a document x gets p(x) = Σ p_k(x) / (K + 1), the sum going over the base and the
adapters. Read token by token, that is a mixture of the experts' predictions whose weights are their posterior: each
expert's weight is multiplied by the probability that it gave the token that came. No domain has to be named, and
nothing is trained. Since p(x) ≥ p_k(x) / (K + 1), a document costs at most log2(K + 1) bits more, in total, than under
the expert that suits it best (Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", section 9.2). By the
same argument, going from K to K' adapters costs a document at most log2((K' + 1) / (K + 1)) bits in total.

In a chat all turns move the weights, those of the user too, while only the assistant's are scored: what is
scored is the answer given all that precedes it, for which the bound does not hold to the letter. A token counts as hit
where the expert that weighed most before it found it likeliest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.evaluate.windows import Progress, Scored, Tally, cut_windows, read_windows
from lifelong.model.experts import BASE, Experts, use_expert

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel

Nats = npt.NDArray[np.float64]
Hits = npt.NDArray[np.bool_]


def bound_bits(experts: int, before: int = 1) -> float:
    """Return by how many bits in total any document can get dearer when ``before`` experts become ``experts``."""
    return math.log2(experts / before)


def mixture(experts: Sequence[Nats]) -> tuple[Nats, npt.NDArray[np.intp]]:
    """Return each token's loss under the mixture (tokens,), and which expert weighed most before the token.

    Args:
        experts: each token's loss in nats under one expert: (tokens,), of one document in order.
    """
    losses = np.stack(experts)
    after = -losses.cumsum(axis=1)  # log of what each expert gave to all so far
    before = np.concatenate([np.zeros((len(experts), 1)), after[:, :-1]], axis=1)
    return np.asarray(_log_sum(before) - _log_sum(after)), before.argmax(axis=0)


def _log_sum(logs: Nats) -> Nats:
    top = logs.max(axis=0)
    total: Nats = top + np.log(np.exp(logs - top).sum(axis=0))
    return total


@dataclass
class Panel:
    """Token sequences, and what each expert made of every token of them.

    An expert's reading stays valid as long as its weights are the same: a new expert is one more reading.
    """

    items: Sequence[Scored]
    length: int
    readings: dict[str, list[tuple[Nats, Hits]]] = field(default_factory=dict)

    def read(self, model: LanguageModel, name: str, *, progress: Progress | None = None) -> None:
        """Run the model as it now computes over all tokens, and keep the outcome as the expert ``name``.

        Raises:
            LifelongError: a loss is not a finite number.
        """
        model.config.require_causal("tell what comes next")
        # Every token counts for the weights of the experts, also those that are not scored.
        whole = [Scored(item.ids, [True] * len(item.ids)) for item in self.items]
        windows = [window for owner, item in enumerate(whole) for window in cut_windows(owner, item, self.length)]
        found = [(np.zeros(len(item.ids) - 1), np.zeros(len(item.ids) - 1, dtype=np.bool_)) for item in whole]
        for window, losses, correct in read_windows(model, windows, progress=progress):
            here = slice(window.start, window.start + len(window.inputs))
            nats, hits = found[window.owner]
            nats[here], hits[here] = losses.numpy(), correct.numpy()
        if not all(np.isfinite(nats).all() for nats, _ in found):
            raise LifelongError(
                "the model's loss is not a finite number: its weights are damaged",
                fix="Go back to an earlier state (lifelong rollback), and train with a lower learning rate.",
            )
        self.readings[name] = found

    def copy(self) -> Panel:
        """Return a panel of the same sequences and readings that can be added to on its own."""
        return Panel(self.items, self.length, dict(self.readings))

    def tallies(self, names: Sequence[str] | None = None) -> list[Tally]:
        """Return the sums over every sequence's scored tokens under some experts together (default: all that read)."""
        names = list(self.readings) if names is None else list(names)
        found = []
        for number, item in enumerate(self.items):
            counts = np.array(item.scored[1:], dtype=np.bool_)
            losses, likeliest = mixture([self.readings[name][number][0] for name in names])
            hits = np.stack([self.readings[name][number][1] for name in names])[likeliest, np.arange(len(likeliest))]
            scored = losses[counts]
            found.append(Tally(math.fsum(scored), len(scored), int(hits[counts].sum()), _blocks(scored)))
        return found


def _blocks(losses: Nats) -> tuple[tuple[float, int], ...]:
    """Return nats and tokens of runs of about √n of n tokens: long enough that they hardly depend on one another, short
    enough that there are some (the customary size of batch means: Flegal and Jones 2010, Annals of Statistics 38(2)).
    """
    count = math.isqrt(len(losses))
    return tuple((float(part.sum()), len(part)) for part in np.array_split(losses, count)) if count else ()


def read_experts(model: LanguageModel, panel: Panel, *, progress: Progress | None = None) -> None:
    """Let every expert of a model read a panel; a model without any is one itself."""
    if not isinstance(model.experts, Experts):
        panel.read(model, BASE, progress=progress)
        return
    names = model.experts.names
    for number, name in enumerate(names):
        use_expert(model, name)

        def shown(done: int, total: int, before: int = number) -> None:
            if progress is not None:
                progress(before * total + done, len(names) * total)

        panel.read(model, name, progress=shown)
    use_expert(model, BASE)
