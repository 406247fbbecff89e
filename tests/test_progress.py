from __future__ import annotations

import io
import subprocess
import sys

import pytest

from lifelong import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_short_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.task("Reading", total=10) as shown:
        for done in range(10):
            shown(done + 1, 10)
    assert capsys.readouterr() == ("", "")


def test_long_work_gives_a_plain_line_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.task("Pretraining", total=100) as shown:
        for done in range(1, 101):
            now += 1.0
            shown.update(done=done, loss=5.0 - done / 100, bits_per_byte=2.5, tokens_per_second=12345.6, phase=None)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 5  # after 5 seconds, then every 30, and at the end
    assert lines[0] == ("Pretraining: 5 of 100 (5%), about 1 min 35 s left  loss 4.950  2.500 bpb  12,346 tok/s")
    assert lines[1].startswith("Pretraining: 35 of 100 (35%)")
    assert lines[-1].startswith("Pretraining: done in 1 min 40 s  loss 4.000")


@pytest.mark.parametrize("terminal", [io.StringIO(), _Terminal()], ids=["log", "dumb terminal"])
def test_work_of_a_few_seconds_names_itself_once(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with progress.task("Measuring the gate", total=5) as shown:
        for done in range(1, 6):
            now += 1.5
            shown(done)
    assert terminal.getvalue().splitlines() == ["Measuring the gate: 4 of 5 (80%), about 2 s left"]


def test_a_terminal_gets_bars_and_notes_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with progress.task("Outer [1]", total=2) as outer:
        with progress.task("Inner", total=1) as inner:
            inner.update(advance=1, loss=1.5, bits_per_byte=2.25, tokens_per_second=12345)
            assert progress._display is not None
            progress._display.refresh()  # done ten times a second otherwise
            progress.note("a note with [brackets]")
        outer.update(done=2)
    text = terminal.getvalue()
    for part in ("Outer [1]", "Inner", "loss 1.500  2.250 bpb  12,345 tok/s", "a note with [brackets]", "2/2"):
        assert part in text
    assert progress._display is None


def test_the_display_is_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with pytest.raises(ZeroDivisionError), progress.task("Work"):
        raise ZeroDivisionError
    assert progress._display is None


@pytest.mark.parametrize(
    ("seconds", "spelled"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (1500, "25 min"), (7500, "2 h 5 min")]
)
def test_seconds_as_people_say_them(seconds: float, spelled: str) -> None:
    assert progress.spell_seconds(seconds) == spelled


def test_rich_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, lifelong.progress as p; p.note('x'); assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
