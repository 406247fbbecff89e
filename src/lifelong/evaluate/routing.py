"""Several experts that answer as one: a Bayes mixture over whole documents.

With K adapters beside the base, a document x gets p(x) = Σ p_k(x) / (K + 1), the sum going over the base and the
adapters. Read token by token, that is a mixture of the experts' predictions whose weights are their posterior: each
expert's weight is multiplied by the probability that it gave the token that came. No domain has to be named, and
nothing is trained. Since p(x) ≥ p_k(x) / (K + 1), a document costs at most log2(K + 1) bits more, in total, than under
the expert that suits it best (Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", section 9.2). By the
same argument, going from K to K' adapters costs a document at most log2((K' + 1) / (K + 1)) bits in total.

Where the topic changes inside a text, the weights need about as long to turn round as they had been confirmed.
*Fixed share* lets every expert give a part of its weight to the others after each token
(`lifelong.model.experts.share_weights`), so that none ever has too little to come back. It is off unless asked for, as
it has a price of its own, which grows with the text: see `fixed_share_bits`.

In a chat all turns move the weights, those of the user too, while only the assistant's are scored: what is
scored is the answer given all that precedes it, for which the bound does not hold to the letter. A token counts as hit
where the expert that weighed most before it found it likeliest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lifelong.errors import LifelongError
from lifelong.evaluate.windows import Progress, Scored, Tally, cut_windows, read_windows
from lifelong.model.experts import BASE, Experts, check_fixed_share, share_weights, use_expert

if TYPE_CHECKING:
    from lifelong.model.base import LanguageModel

Nats = npt.NDArray[np.float64]
Hits = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]


def bound_bits(experts: int, before: int = 1) -> float:
    """Return by how many bits in total any document can get dearer when ``before`` experts become ``experts``."""
    return math.log2(experts / before)


def fixed_share_bits(experts: int, tokens: int, share: float, changes: int = 0) -> float:
    """Return by how many bits in total a text can cost more, with fixed share, than under its best sequence of experts.

    The sequence has one expert for each token, and another than before at ``changes`` places. Fixed share with the
    share α is the mixture over all sequences, whose first expert is any of N with probability 1/N, and every later one
    the same as before with 1 - α, each of the others with α / (N - 1). The probability of a sequence bounds what the
    mixture costs beside it: log2 N + m·log2((N - 1) / α) + (T - 1 - m)·log2(1 / (1 - α)) bits for T tokens and m
    changes (Herbster and Warmuth 1998, "Tracking the Best Expert", Machine Learning 32, for the logarithmic loss). So
    a text without any change of topic pays at most log2(1 / (1 - α)) bits a token, beside the log2 N of the plain
    mixture.
    """
    if experts == 1:
        return 0.0
    if changes and not share:
        return math.inf
    stay = -math.log1p(-share) / math.log(2)
    turn = math.log2((experts - 1) / share) if changes else 0.0
    return math.log2(experts) + changes * turn + max(0, tokens - 1 - changes) * stay


def mixture(experts: Sequence[Nats], *, fixed_share: float = 0.0) -> tuple[Nats, Numbers]:
    """Return each token's loss under the mixture (tokens,), and which expert weighed most before the token.

    Args:
        experts: each token's loss in nats under one expert: (tokens,), of one document in order.
        fixed_share: of its weight that an expert gives to the others after every token.
    """
    losses = np.stack(experts)
    if fixed_share:
        return _shared(losses, fixed_share)
    after = -losses.cumsum(axis=1)  # log of what each expert gave to all so far
    before = np.concatenate([np.zeros((len(experts), 1)), after[:, :-1]], axis=1)
    return np.asarray(_log_sum(before) - _log_sum(after)), before.argmax(axis=0)


def _shared(losses: Nats, share: float) -> tuple[Nats, Numbers]:
    """Return what `mixture` does, for losses (experts, tokens), with fixed share: token by token."""
    best = losses.min(axis=0)
    given = np.exp(best - losses)  # relative to the best at each token; no weight is ever 0, so no sum is either
    weights = np.full(len(losses), 1 / len(losses))
    sums, likeliest = np.empty(losses.shape[1]), np.empty(losses.shape[1], dtype=np.intp)
    for token in range(losses.shape[1]):
        likeliest[token] = weights.argmax()
        joint = weights * given[:, token]
        sums[token] = joint.sum()
        weights = share_weights(joint / sums[token], share)
    return best - np.log(sums), likeliest


def _log_sum(logs: Nats) -> Nats:
    top = logs.max(axis=0)
    total: Nats = top + np.log(np.exp(logs - top).sum(axis=0))
    return total


@dataclass(frozen=True)
class Excess:
    """What it cost each document that all experts answered it together.

    Attributes:
        experts: how many there are.
        fixed_share: the share that they gave each other after every token.
        bits: of each document, in total, beyond the expert that suits it best.
        tokens: of each document, all that moved the experts' weights.
        whole: whether all of these were scored in every document; in chats they are not.
    """

    experts: int
    fixed_share: float
    bits: tuple[float, ...]
    tokens: tuple[int, ...]
    whole: bool

    @property
    def worst(self) -> tuple[float, float]:
        """The most bits that a document cost beyond its best expert, and how many it could have at most."""
        bits, tokens = max(zip(self.bits, self.tokens, strict=True))
        return bits, fixed_share_bits(self.experts, tokens, self.fixed_share)

    @property
    def price(self) -> tuple[float, float]:
        """What fixed share can cost at most, in bits: for every token, and for every change of topic."""
        start = fixed_share_bits(self.experts, 1, self.fixed_share)
        stay = fixed_share_bits(self.experts, 2, self.fixed_share)
        turn = fixed_share_bits(self.experts, 2, self.fixed_share, changes=1)
        return stay - start, turn - start

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``lifelong evaluate --json`` prints them."""
        bits, bound = self.worst
        token, change = self.price
        return {
            "experts": self.experts,
            "worst_excess_bits": bits,
            "bound_bits": bound,
            "bound_proven": self.whole,
            "fixed_share": self.fixed_share,
            **({"bits_per_token": token, "bits_per_change": change} if self.fixed_share else {}),
        }

    def joined(self, other: Excess) -> Excess:
        """Return what it cost the documents of both, answered by equally many experts."""
        assert (self.experts, self.fixed_share) == (other.experts, other.fixed_share)
        bits, tokens = self.bits + other.bits, self.tokens + other.tokens
        return Excess(self.experts, self.fixed_share, bits, tokens, self.whole and other.whole)


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

    def tallies(self, names: Sequence[str] | None = None, *, fixed_share: float = 0.0) -> list[Tally]:
        """Return the sums over every sequence's scored tokens under some experts together (default: all that read).

        Raises:
            LifelongError: the fixed share is out of range.
        """
        check_fixed_share(fixed_share)
        names = list(self.readings) if names is None else list(names)
        found = []
        for number, item in enumerate(self.items):
            counts = np.array(item.scored[1:], dtype=np.bool_)
            losses, likeliest = mixture([self.readings[name][number][0] for name in names], fixed_share=fixed_share)
            hits = np.stack([self.readings[name][number][1] for name in names])[likeliest, np.arange(len(likeliest))]
            scored = losses[counts]
            found.append(Tally(math.fsum(scored), len(scored), int(hits[counts].sum()), _blocks(scored)))
        return found

    def excess(self, together: Sequence[Tally], alone: Sequence[Sequence[Tally]], fixed_share: float) -> Excess:
        """Return what the sequences cost ``together`` beyond what each costs under the best expert ``alone``."""
        best = [min(tally.nats for tally in tallies) for tallies in zip(*alone, strict=True)]
        return Excess(
            experts=len(alone),
            fixed_share=fixed_share,
            bits=tuple((tally.nats - nats) / math.log(2) for tally, nats in zip(together, best, strict=True)),
            tokens=tuple(len(item.ids) - 1 for item in self.items),
            whole=all(all(item.scored[1:]) for item in self.items),
        )


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
