from __future__ import annotations

import math

import pytest

from lifelong.evaluate.bits import Score
from lifelong.evaluate.matrix import extend_matrix
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


def test_one_document_has_no_standard_error() -> None:
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
    first = extend_matrix(None, {"base": 2.0, "a": 3.0}, {"base": 2.1, "a": 2.5}, "a")
    assert first.bpb == [[2.0, 3.0], [2.1, 2.5]] and first.sessions == ["start", "a"]
    second = extend_matrix(first.to_dict(), {"base": 2.1, "a": 2.5, "b": 4.0}, {"base": 2.2, "a": 2.4, "b": 3.0}, "b")
    assert second.bpb == [[2.0, 3.0, None], [2.1, 2.5, 4.0], [2.2, 2.4, 3.0]]
    assert second.domains == ["base", "a", "b"]
