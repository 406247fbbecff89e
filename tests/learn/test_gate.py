from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.evaluate.bits import Score, score_of
from lifelong.evaluate.growing import extend_matrix
from lifelong.evaluate.matrix import Measuring
from lifelong.evaluate.routing import Panel
from lifelong.evaluate.windows import Scored
from lifelong.learn.gate import Change, change, decide


def scored(*documents: tuple[float, int]) -> Score:
    nats, size = sum(n for n, _ in documents), sum(b for _, b in documents)
    return Score(nats, tokens=size, bytes=size, correct=0, documents=tuple(documents))


def test_a_change_is_paired_by_document() -> None:
    before = scored((100.0, 100), (900.0, 300), (200.0, 100))
    moved = change(before, scored((99.0, 100), (897.0, 300), (199.0, 100)))  # one hundredth of a nat per byte less
    assert moved.difference == pytest.approx(-5 / 500 / math.log(2))
    # The documents differ much among themselves, but all moved alike: no noise in the difference.
    assert moved.standard_error == pytest.approx(0.0, abs=1e-9)
    assert before.standard_error and before.standard_error > 0.3


def test_one_document_without_blocks_has_no_standard_error() -> None:
    assert change(scored((1.0, 1)), scored((0.5, 1))).standard_error is None


@pytest.mark.parametrize(
    ("new", "old", "kept"),
    [
        (Change(3.0, 2.5, 0.01), Change(1.5, 1.51, 0.001), True),  # learned; old domain 0.7% worse
        (Change(3.0, 2.5, 0.01), Change(1.5, 1.53, 0.001), False),  # old domain 2% worse
        (Change(3.0, 2.5, 0.01), Change(1.5, 1.53, 0.02), True),  # 2% worse, but that is within its noise
        (Change(3.0, 2.99, 0.01), Change(1.5, 1.5, 0.001), False),  # learned no more than noise
        (Change(3.0, 2.5, None), Change(1.5, 1.4, None), True),
    ],
)
def test_the_gate_keeps_what_teaches_and_does_not_forget(new: Change, old: Change, kept: bool) -> None:
    decision = decide({"old": old, "new": new}, "new", tolerance=0.01)
    assert decision.accepted is kept
    assert len(decision.reasons) == 2


def test_an_unmeasured_domain_is_gated_on_the_old_ones_alone() -> None:
    decision = decide({"old": Change(1.5, 1.5, 0.01)}, "new")
    assert decision.accepted and "unmeasured" in decision.reasons[-1]


def test_a_matrix_grows_by_rows_and_by_domains() -> None:
    first = extend_matrix(None, {"base": 2.0, "a": 3.0}, {"base": 2.1, "a": 2.5}, "a", Measuring(64, 1000))
    assert first.bpb == [[2.0, 3.0], [2.1, 2.5]] and first.sessions == ["start", "a"]
    second = extend_matrix(
        first.to_dict(), {"base": 2.1, "a": 2.5, "b": 4.0}, {"base": 2.2, "a": 2.4, "b": 3.0}, "b", Measuring(64, 1000)
    )
    assert second.bpb == [[2.0, 3.0, None], [2.1, 2.5, 4.0], [2.2, 2.4, 3.0]]
    assert second.domains == ["base", "a", "b"]


def read(*documents: np.ndarray) -> Score:
    """The score of documents of which every token's loss in nats is known, and spells four bytes."""
    items = [Scored([0] * (len(losses) + 1), [False] + [True] * len(losses)) for losses in documents]
    readings = [(losses, np.zeros(len(losses), dtype=np.bool_)) for losses in documents]
    return score_of(Panel(items, 64, {"base": readings}).tallies(), [4 * len(losses) for losses in documents])


def test_one_document_has_the_error_of_its_blocks() -> None:
    """Differences of neighbouring tokens that depend on one another, whose error is known: a moving average."""
    random, count, share = np.random.default_rng(0), 2500, 0.6
    errors = []
    for _ in range(60):
        noise = random.normal(size=count + 1)
        before = random.exponential(2.0, size=count)
        moved = change(read(before), read(before - 0.1 + noise[1:] + share * noise[:-1]))
        assert moved.standard_error is not None
        errors.append(moved.standard_error)
    expected = (1 + share) * math.sqrt(count) / (4 * count) / math.log(2)
    assert np.mean(errors) == pytest.approx(expected, rel=0.1)
    # Tokens taken for independent draws would claim to be surer than that.
    assert math.sqrt(1 + share**2) / (1 + share) < 0.75


def test_few_documents_that_moved_alike_are_no_proof() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=400)
    early = [random.exponential(2.0, size=400) for _ in range(2)]
    late = [losses + noise - noise.mean() - 0.01 for losses in early]
    few = change(read(*early), read(*late))
    one = change(read(early[0]), read(late[0]))
    assert few.standard_error is not None and one.standard_error is not None
    assert few.standard_error == pytest.approx(one.standard_error / math.sqrt(2), rel=0.1)
    assert not decide({"new": few}, "new").learned  # both lost the same 0.01 nats, less than either wavers


@given(st.integers(5, 9), st.integers(0, 2**31))
def test_many_documents_speak_for_themselves(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    early = [random.exponential(2.0, size=30 + number) for number in range(count)]
    late = [losses + random.normal(size=len(losses)) for losses in early]
    before, after = read(*early), read(*late)
    bare = change(replace(before, blocks=()), replace(after, blocks=()))
    assert change(before, after) == bare and bare.standard_error is not None


def test_too_little_text_says_that_there_is_no_estimate() -> None:
    moved = change(read(np.full(20, 2.0)), read(np.full(20, 1.0)))
    assert moved.standard_error is None
    decision = decide({"new": moved}, "new")
    assert decision.accepted and "too little text to tell how sure that is" in decision.reasons[0]
