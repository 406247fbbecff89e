from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from lifelong.errors import LifelongError
from lifelong.evaluate.growing import ANEW, extend_matrix, measuring_of
from lifelong.evaluate.matrix import Matrix, Measuring

# Columns: known from the start, taught first, taught second, taught last.
FULL = Matrix(
    domains=["base", "a", "b", "c"],
    sessions=["start", "a", "b", "c"],
    bpb=[[2.0, 4.0, 3.0, 5.0], [2.2, 2.5, 2.8, 4.8], [2.1, 2.6, 2.0, 4.0], [2.3, 2.4, 2.5, 1.5]],
)


def test_derived_numbers_by_hand() -> None:
    assert FULL.average == pytest.approx((2.3 + 2.4 + 2.5 + 1.5) / 4)
    # base: 2.0 - 2.3, a: 2.5 - 2.4, b: 2.0 - 2.5; c was learned last and cannot have been forgotten.
    assert FULL.bwt == pytest.approx((-0.3 + 0.1 - 0.5) / 3)
    # b: 3.0 before any session, 2.8 before its own; c: 5.0 and 4.0; a was taught first: nothing came before it.
    assert FULL.fwt == pytest.approx((0.2 + 1.0) / 2)
    assert FULL.forgetting == {
        "base": pytest.approx(0.3),
        "a": pytest.approx(2.4 - 2.5),
        "b": pytest.approx(0.5),
        "c": None,
    }


def test_one_lesson_forgotten_has_negative_backward_transfer() -> None:
    naive = Matrix(["prose", "code"], ["start", "code"], [[1.9, 3.1], [2.5, 1.8]])
    assert naive.bwt == pytest.approx(-0.6)
    assert naive.fwt is None
    assert naive.forgetting == {"prose": pytest.approx(0.6), "code": None}


def test_only_the_start() -> None:
    start = Matrix(["prose"], ["start"], [[2.0]])
    assert (start.average, start.bwt, start.fwt, start.forgetting) == (2.0, None, None, {"prose": None})


def test_empty() -> None:
    empty = Matrix([], [], [])
    assert (empty.average, empty.bwt, empty.fwt, empty.forgetting) == (None, None, None, {})


def test_cells_not_measured_are_left_out() -> None:
    late = Matrix(["base", "a", "b"], ["start", "a", "b"], [[2.0, None, None], [2.1, 2.5, None], [2.2, 2.7, 1.5]])
    assert late.bwt == pytest.approx(((2.0 - 2.2) + (2.5 - 2.7)) / 2)
    assert late.fwt is None
    unmeasured = Matrix(["a"], ["start", "x"], [[2.0], [None]])
    assert (unmeasured.average, unmeasured.bwt, unmeasured.forgetting) == (None, None, {"a": None})


def test_change_is_against_the_last_lesson_of_the_domain() -> None:
    twice = Matrix(["a"], ["start", "a", "b", "a", "b"], [[4.0], [2.0], [3.0], [1.5], [1.8]])
    changes = [twice.change(row, 0) for row in range(5)]
    assert changes == [None, *(pytest.approx(value) for value in (-0.5, 0.5, -0.25, 0.2))]


def test_json_has_exactly_the_agreed_keys_and_comes_back() -> None:
    values = json.loads(json.dumps(FULL.to_dict()))
    assert list(values) == ["domains", "sessions", "bpb", "bwt", "fwt", "average", "forgetting"]
    assert Matrix.from_dict(values) == FULL
    sparse = Matrix(["a"], ["start"], [[None]])
    assert Matrix.from_dict(json.loads(json.dumps(sparse.to_dict()))) == sparse


def test_table_shows_numbers_and_changes() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(FULL.to_table())
    text = out.getvalue()
    assert "1.500" in text
    assert "-70.0%" in text
    assert "backward transfer -0.233" in text


def test_a_narrow_screen_shows_every_name_whole_and_every_cell() -> None:
    names = [f"correspondence_of_the_department_{number}" for number in range(1, 9)]
    rows = [[2.0 + i / 8 + j / 100 for j in range(8)] for i in range(9)]
    wide = Matrix(names, ["start", *names], rows)
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in wide.to_tables(console.width):
        console.print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    assert all(f"{value:.3f}" in out.getvalue() for row in rows for value in row)
    heads = [line for line in lines if line.startswith("┃")]
    assert all(any(f"_{number} ┃" in line or f" {number} ┃" in line for line in heads) for number in range(1, 9))
    assert out.getvalue().count("backward transfer") == 1 and "domains 1 to 3 of 8" in out.getvalue()
    assert len(wide.to_tables(500)) == len(FULL.to_tables(80)) == 1


def test_names_are_not_read_as_console_markup() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(Matrix(["[red]x"], ["[bold]"], [[1.0]]).to_table())
    assert "[red]x" in out.getvalue()
    assert "[bold]" in out.getvalue()


@pytest.mark.parametrize(
    ("sessions", "bpb"),
    [(["start"], []), (["start"], [[1.0, 2.0]]), (["start"], [[math.nan]]), (["start"], [[math.inf]])],
)
def test_wrong_shapes_and_numbers_are_refused(sessions: list[str], bpb: list[list[float | None]]) -> None:
    with pytest.raises(LifelongError):
        Matrix(["a"], sessions, bpb)


@pytest.mark.parametrize("values", [{}, {"domains": ["a"], "sessions": ["s"], "bpb": [["x"]]}, {"domains": 1}])
def test_foreign_json_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(LifelongError):
        Matrix.from_dict({"sessions": [], "bpb": [], **values} if "domains" in values else values)


def test_intransigence_by_hand() -> None:
    joint = replace(FULL, joint=[2.1, 2.3, None, 1.4])
    assert joint.intransigence == {
        "base": {"taught": None, "end": pytest.approx(0.2)},
        "a": {"taught": pytest.approx(0.2), "end": pytest.approx(0.1)},
        "c": {"taught": pytest.approx(0.1), "end": pytest.approx(0.1)},
    }
    assert FULL.intransigence == {} and "joint" not in FULL.to_dict()
    out = io.StringIO()
    Console(file=out, width=100).print(joint.to_table())
    assert "joint model" in out.getvalue() and "a +0.200, +0.100" in out.getvalue()
    assert Matrix.from_dict(json.loads(json.dumps(joint.to_dict()))) == joint
    with pytest.raises(LifelongError, match="row 'joint' has 1 cells"):
        replace(FULL, joint=[1.0])


def test_a_session_answers_for_what_it_did_alone() -> None:
    how = Measuring(64, 1000)
    first = extend_matrix(None, {"base": 2.0, "a": 4.0}, {"base": 2.1, "a": 3.0}, "a", how)
    stale = replace(first, stale="measured before 'notes' was forgotten")
    assert "note: measured before 'notes' was forgotten" in stale.summary()
    same = extend_matrix(stale.to_dict(), {"base": 2.1001, "a": 3.0}, {"base": 2.1, "a": 3.0}, "b", how)
    assert same.sessions == ["start", "a", "b"] and not same.stale
    other = extend_matrix(stale.to_dict(), {"base": 2.1, "a": 3.4}, {"base": 2.1, "a": 3.4}, "b", how)
    assert other.sessions == ["start", "a", ANEW, "b"] and other.bpb[2] == [2.1, 3.4]
    assert other.change(3, 1) == pytest.approx(3.4 / 3.0 - 1)


def test_all_rows_are_measured_as_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    how, other = Measuring(64, 1000), Measuring(32, 500)
    raw = extend_matrix(None, {"base": 2.0}, {"base": 2.1}, "a", how).to_dict()
    assert measuring_of(raw, how) == how and not capsys.readouterr().err
    assert measuring_of(raw, other) == how
    assert "measured as it was before: rows of 64 tokens, 1,000 bytes a domain" in capsys.readouterr().err
    assert measuring_of(None, other) == other
    assert Matrix.from_dict(raw).measuring == how


def test_notes_go_on_with_the_matrix_and_are_shown_as_they_are() -> None:
    noted = replace(FULL, notes={"a": "[bold]purged"})
    longer = extend_matrix(noted.to_dict(), {}, {"base": 2.0}, "d", Measuring(64, 1000))
    assert longer.notes == noted.notes and Matrix.from_dict(longer.to_dict()) == longer
    out = io.StringIO()
    Console(file=out, width=100).print(noted.to_table())
    assert "note on a: [bold]purged" in out.getvalue()
