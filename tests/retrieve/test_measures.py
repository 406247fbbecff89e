"""Measures of a ranking against worked values, and against scikit-learn where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.retrieve.measures import covered, ndcg, recall, reciprocal_rank
from lifelong.retrieve.questions import Question, read_questions
from lifelong.retrieve.scoring import score
from lifelong.retrieve.store import SimpleDocumentStore


def test_worked_values() -> None:
    # The example of "Discounted cumulative gain" in Wikipedia: gains 3, 2, 3, 0, 1, 2 with two more of 3 and 2 unseen.
    assert ndcg([3, 2, 3, 0, 1, 2], [3, 2, 3, 0, 1, 2, 3, 2], 6) == pytest.approx(0.785, abs=5e-4)
    assert ndcg([0, 1], [1], 10) == pytest.approx(0.6309, abs=5e-5)  # 1 / log2(3)
    assert recall([1, 0, 1, 1], [1] * 4, 3) == 0.5
    assert reciprocal_rank([0, 0, 1, 1], 10) == pytest.approx(1 / 3) and reciprocal_rank([0, 0, 1], 2) == 0
    assert covered([(0, 5), (3, 8)], [(4, 12)]) == 0.5


@given(st.lists(st.integers(0, 3), min_size=2, max_size=15), st.integers(1, 12))
def test_ndcg_is_scikit_learns(gains: list[int], k: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    falling = [float(len(gains) - rank) for rank in range(len(gains))]
    assert ndcg(gains, gains, k) == pytest.approx(metrics.ndcg_score([gains], [falling], k=k))


def _store() -> SimpleDocumentStore:
    store = SimpleDocumentStore()
    store.add_documents([{"text": f"passage {word}", "source": f"docs/{word}.md"} for word in ("one", "two", "three")])
    return store


def test_spans_and_whole_sources_count(tmp_path: Path) -> None:
    rows = [
        {"question": "passage two", "references": [{"source": "docs/two.md", "start": 8, "end": 11}]},
        {"query": "two", "source": "three", "start": 0, "end": 4},
        {"text": "passage one", "relevant": ["one.md"]},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = score(_store(), read_questions(path))
    assert found["mrr"] == found["ndcg"] == found["recall"] == pytest.approx(2 / 3)
    assert found["covered"] == pytest.approx(1 / 2)  # of the questions with spans


def test_judgements_are_read_as_trec_and_beir_write_them(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("1\tpassage two\n2\tpassage three\n")
    (tmp_path / "trec").write_text("1 0 two 2\n2 0 three 1\n2 0 one 0\n")
    (tmp_path / "beir.tsv").write_text("query-id\tcorpus-id\tscore\n1\ttwo\t2\n2\tthree\t1\n")
    for name in ("trec", "beir.tsv"):
        questions = read_questions(tmp_path / "q.tsv", tmp_path / name)
        assert [dict(question.grades) for question in questions] == [{"two": 2.0}, {"three": 1.0}]
        assert score(_store(), questions)["ndcg"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("{", "q.jsonl:1: not valid JSON"),
        ('{"references": []}', "no question"),
        ('{"question": "a"}', "names nothing that answers"),
        ('{"question": "a", "references": [{"start": 1, "end": 2}]}', "lacks its source"),
        ('{"question": "a", "source": "b", "start": 5, "end": 5}', "holds nothing"),
        ('{"question": "a", "source": "b", "start": "x", "end": 5}', "not a number"),
        ("[]", "no mapping"),
        ("", "there is no question"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, row: str, named: str) -> None:
    (tmp_path / "q.jsonl").write_text(row)
    with pytest.raises(LifelongError) as error:
        read_questions(tmp_path / "q.jsonl")
    assert named in str(error.value)


def test_a_source_that_the_store_lacks_is_named() -> None:
    with pytest.raises(LifelongError, match="no source 'four'"):
        score(_store(), [Question("a", "q:1", grades={"four": 1.0})])
