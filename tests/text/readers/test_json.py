"""JSON: what the standard allows is read as the standard library reads it, the rest is refused by place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifelong.text import DataSource
from lifelong.text.document import BadInput
from lifelong.text.readers import list_files, read_file
from lifelong.text.readers.json_rows import json_lines, json_values
from lifelong.text.readers.opening import ROW_LIMIT

_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def _refuse(problem: BadInput) -> None:
    raise problem


def _rows(path: Path, reader: Callable[..., Any]) -> list[Any]:
    (file,) = list_files(DataSource(path)).files
    return [row for _, row in reader(file, _refuse)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(rows=st.lists(_ANY, max_size=8), indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
def test_what_the_standard_library_writes_is_read_back(
    rows: list[Any], indent: int | None, ascii_only: bool, tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert _rows(path, json_values) == rows
    assert _rows(path, json_lines) == rows
    lines = "".join(json.dumps({"row": row}, ensure_ascii=ascii_only) + "\r\n\r\n" for row in rows)
    path.write_text(lines or "{}", encoding="utf-8", newline="")
    assert _rows(path, json_values) == _rows(path, json_lines) == ([{"row": row} for row in rows] or [{}])


def test_rows_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = [{"text": "ä" * size, "n": size} for size in (1, 300_000, 5, 900_000, 2)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    assert _rows(path, json_values) == rows
    documents = list(read_file(list_files(DataSource(path)).files[0]))
    assert [document.line for document in documents] == [2, 6, 10, 14, 18]


def test_an_array_in_a_file_of_lines_and_lines_in_a_file_of_json(tmp_path: Path, read: Callable[..., Any]) -> None:
    rows = [{"text": "one"}, {"text": "two"}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows, indent=1))
    (tmp_path / "b.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "c.json").write_text(json.dumps(rows[0], indent=1))
    assert [(d.text, d.line) for d in read(tmp_path / "a.jsonl")[0]] == [("one", 2), ("two", 5)]
    assert [(d.text, d.line) for d in read(tmp_path / "b.json")[0]] == [("one", 1), ("two", 2)]
    assert [(d.text, d.line) for d in read(tmp_path / "c.json")[0]] == [("one", None)]


DEEP = "[" * 10_000 + "]" * 10_000
BAD = [
    ('{"text": "a", "text": "b"}', "duplicate-key", "the key 'text' is given twice"),
    ('{"text": "a", "n": NaN}', "bad-number", "NaN is not JSON"),
    ('{"text": "a", "n": -Infinity}', "bad-number", "-Infinity is not JSON"),
    ('{"text": "a", "n": 1e999}', "bad-number", "too large"),
    pytest.param('{"n": ' + "9" * 5000 + "}", "bad-number", "too many digits", id="digits"),
    ('{"a": {"b": ["x", "\\ud800"]}}', "lone-surrogate", r"a\.b\[2\] holds half"),
    ('{"\\udc00": 1}', "lone-surrogate", "a key holds half"),
    pytest.param('{"text": ' + DEEP + "}", "too-deep", "nested too deeply", id="deep"),
    pytest.param('{"text": ' + "[" * 150 + "]" * 150 + "}", "too-deep", "more than 100 levels", id="rather-deep"),
]
BROKEN = [
    ('{"text": "a" "b"}', r"near the key 'text' \(column 14\)"),
    ('{"text": "a\tb"}', "control character"),
    ('{"text": "a"', "delimiter"),
    ('{"text": tru}', r"near the key 'text'"),
    ("{'text': 1}", "double quotes"),
    ('{"text": 01}', "delimiter"),
]


@pytest.mark.parametrize(("row", "rule", "message"), BAD)
def test_what_the_standard_does_not_allow_costs_its_row(
    row: str, rule: str, message: str, tmp_path: Path, read: Callable[..., Any]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' + row + '\n{"text": "three"}\n')
    documents, (problem,) = read(tmp_path / "a.jsonl")
    assert [document.text for document in documents] == ["one", "three"]
    assert (problem.rule, problem.where, problem.fatal) == (rule, f"{tmp_path}/a.jsonl:2", False)
    with pytest.raises(BadInput, match=message):
        list(read_file(list_files(DataSource(tmp_path / "a.jsonl")).files[0]))
    (tmp_path / "a.json").write_text('[{"text": "one"},\n' + row + ',\n{"text": "three"}]')
    documents, (problem,) = read(tmp_path / "a.json")
    assert documents[0].text == "one"
    assert (problem.rule, problem.where) == (rule, f"{tmp_path}/a.json:2")
    if not problem.fatal:
        assert problem.what.startswith("row 2: ")
        assert documents[1].text == "three"


@pytest.mark.parametrize(("row", "message"), BROKEN)
def test_what_is_no_json_names_line_column_and_key(
    row: str, message: str, tmp_path: Path, read: Callable[..., Any]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' + row + '\n{"text": "three"}\n')
    documents, (problem,) = read(tmp_path / "a.jsonl")
    assert [document.text for document in documents] == ["one", "three"]
    assert (problem.rule, problem.where) == ("bad-json", f"{tmp_path}/a.jsonl:2")
    with pytest.raises(BadInput, match=message):
        raise problem
    (tmp_path / "a.json").write_text('[\n{"text": "one"},\n' + row + ',\n{"text": "three"}]')
    documents, (problem,) = read(tmp_path / "a.json")
    assert [document.text for document in documents] == ["one"]
    assert (problem.rule, problem.fatal) == ("bad-json", True)
    assert problem.where in (f"{tmp_path}/a.json:3", f"{tmp_path}/a.json:4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a"}', "not closed"),
        ('[{"text": "a"},]', "comma before the end"),
        ('[{"text": "a"} {"text": "b"}]', "missing after a row"),
        ('[{"text": "a"}] x', "something follows"),
        ("17", "an object or a list"),
    ],
)
def test_a_broken_array(text: str, message: str, tmp_path: Path, read: Callable[..., Any]) -> None:
    (tmp_path / "a.json").write_text(text)
    _, problems = read(tmp_path / "a.json")
    assert len(problems) == 1
    with pytest.raises(BadInput, match=message):
        raise problems[0]


@pytest.mark.parametrize("text", ["  \n ", "[]", " [ \n]\n"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_files_without_rows_are_noted(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (file,) = list_files(DataSource(tmp_path)).files
    for _ in range(2):  # counted anew each time it is read
        assert list(read_file(file)) == []
        assert file.notes == {"files that hold no text": 1}


def test_a_mark_of_utf16_and_one_of_utf8(tmp_path: Path, read: Callable[..., Any]) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\n')
    assert read(tmp_path / "a.jsonl")[0][0].text == "one"
    (tmp_path / "b.jsonl").write_text('{"text": "öne"}\n', encoding="utf-16")
    _, (problem,) = read(tmp_path / "b.jsonl")
    assert problem.rule in ("not-utf8", "binary")
    assert read(tmp_path / "b.jsonl", encoding="utf-16")[0][0].text == "öne"


@pytest.mark.slow
@pytest.mark.parametrize("array", [False, True])
def test_an_endless_row_is_refused_in_bounded_memory(array: bool, tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / ("a.json" if array else "a.jsonl")
    with path.open("w") as handle:
        handle.write('[{"text": "one"},\n{"text": "' if array else '{"text": "one"}\n{"text": "')
        for _ in range(ROW_LIMIT * 3 // (1 << 20)):
            handle.write("x" * (1 << 20))
        handle.write('"},\n{"text": "three"}]' if array else '"}\n{"text": "three"}\n')
    documents, (problem,) = read(path)
    assert (problem.rule, problem.where) == ("too-long-row", f"{path}:2")
    assert [document.text for document in documents] == (["one"] if array else ["one", "three"])
    assert sys.getsizeof(problem.what) < 1000


def test_rows_that_share_a_line_are_named_by_their_number(tmp_path: Path) -> None:
    for text, places in (
        ('[{"a": 1}, {"a": 2}]', [-1, -2]),
        ('[{"a": 1},\n {"a": 2}]', [1, 2]),
        ('[\n{"a": 1},\n{"a": 2}, {"a": 3},\n{"a": 4}\n]', [2, -2, -3, 4]),
        ('[{"a": 1}]', [1]),
    ):
        (tmp_path / "rows.json").write_text(text)
        listed = list_files(DataSource(tmp_path / "rows.json")).files[0]
        assert [place for place, _ in json_values(listed, lambda _: None)] == places
