"""Whether a stage has to run follows from what was noted about it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.errors import LifelongError
from lifelong.pipeline.notes import Notes, reason_to_run

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
_NAMES = st.text(alphabet="abcde", min_size=1, max_size=3)
_INPUTS = st.dictionaries(_NAMES, _PLAIN | st.lists(_PLAIN, max_size=2) | st.dictionaries(_NAMES, _PLAIN, max_size=3))


@given(_INPUTS, _INPUTS)
def test_equal_inputs_are_up_to_date_and_others_are_not(noted: dict[str, Any], now: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        notes = Notes(home)
        assert reason_to_run(notes.get("sft"), noted) == "not done yet"
        notes.begin("sft", noted, {"runs_before": 1})
        assert str(reason_to_run(Notes(home).get("sft"), noted)) == "it was interrupted"
        notes.finish("sft", noted, {"weights": "a"}, time.perf_counter())
        record = Notes(home).get("sft")
        assert reason_to_run(record, noted) is None
        gone = {key: value for key, value in noted.items() if value is not None}
        same = gone == {key: value for key, value in now.items() if value is not None}
        assert (reason_to_run(record, now) is None) == same
        notes.ask_again("sft")
        assert reason_to_run(Notes(home).get("sft"), noted) == "asked for again"
        assert Notes(home).done("sft") is None


def test_changes_are_named_down_to_the_single_setting(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    inputs = {"text": "abc", "settings": {"steps": 3, "optimizer": {"name": "muon"}}}
    notes.finish("sft", inputs, {}, time.perf_counter())
    now = {"text": "abd", "settings": {"steps": 3, "optimizer": {"name": "adamw"}}}
    assert reason_to_run(notes.get("sft"), now) == (
        "other text, other settings (optimizer.name: muon before, adamw now)"
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"stages": {"sft": {"state": 1}}}', '{"stages": 3}'])
def test_a_foreign_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "pipeline.json").write_text(content)
    with pytest.raises(LifelongError) as raised:
        Notes(tmp_path)
    assert str(tmp_path / "pipeline.json") in str(raised.value)
