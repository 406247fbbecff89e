from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lifelong.cli.app import main
from lifelong.evaluate.matrix import Matrix
from lifelong.report.html import render_report, write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = "<script>alert(1)</script> & \"quoted\" 'single' \x00 \ud800"


class Page(HTMLParser):
    """Reads a page as a browser would, and fails where tags do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture
def content(metrics: list[dict[str, Any]], guarded: Matrix, naive: Matrix) -> dict[str, Any]:
    return {
        "title": "A model of Python's documentation",
        "facts": {"parameters": "5.2 million", "machine": "2 cores"},
        "runs": {"pretraining": metrics, "lesson: code": metrics},
        "matrix": guarded,
        "beside": {"naive fine-tuning": naive},
        "baselines": {"prose": {"unigram": 3.02, "zlib": 2.61, "xz": 2.5, "xz_primed": 1.99}, "code": {"zlib": 2.2}},
        "samples": [{"title": "Prose", "prompt": "Return a", "before": " of the", "after": " list of names"}],
        "answers": [{"question": "What does `os.path.join` do?", "answer": "Joins.", "truth": "Join two or more."}],
        "choices": {"accuracy": 0.615, "standard_error": 0.034, "chance": 0.25, "questions": 200, "distractors": 3},
        "next_commands": ["lifelong chat quickstart/model", "# then"],
        "notes": ["It gets facts wrong."],
    }


def test_the_page_is_well_formed_and_shows_the_numbers(content: dict[str, Any]) -> None:
    page = Page(render_report(**content))
    for expected in (
        *("1.912", "3.104", "1.921", "1.871", "2.488", "1.842", "+0.5%", "−39.7%", "+30.1%"),
        *("−0.009", "−0.576", "3.02", "2.61", "1.99", "1.92", "61.5%", "± 3.4", "200 questions", "chance 25%"),
        *("5.2 million", "409,600 tokens", "41,234 tokens/s", "Join two or more.", " list of names", "os.path.join"),
        *("lifelong chat quickstart/model", "It gets facts wrong.", "Taught code, it needs 39.7% fewer bits per byte"),
    ):
        assert expected in page.text, expected


def test_the_page_loads_nothing(content: dict[str, Any]) -> None:
    text = render_report(**content)
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "image", "use"} & set(page.tags)
    assert not [
        one for one in page.attributes if one[1] in ("src", "href", "srcset", "data") or one[1].startswith("on")
    ]
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_every_picture_is_an_xml_document_with_a_description(content: dict[str, Any]) -> None:
    pictures = re.findall(r"<svg.*?</svg>", render_report(**content), re.DOTALL)
    assert len(pictures) == 6  # changes, two runs, two domains' baselines, the meter
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.get("aria-label")
        numbers = [float(value) for node in root.iter() for key, value in node.items() if key in ("x", "y", "width")]
        assert all(math.isfinite(value) and value >= 0 for value in numbers)


def test_all_text_is_escaped() -> None:
    matrix = Matrix([EVIL], ["start", EVIL], [[2.0], [1.0]])
    text = render_report(
        title=EVIL,
        facts={EVIL: EVIL},
        runs={EVIL: [{"step": step, "loss": 1.0 / step, "phase": EVIL} for step in (1, 2, 3)]},
        matrix=matrix,
        beside={EVIL: matrix},
        baselines={EVIL: {EVIL: 1.0}},
        samples=[{"title": EVIL, "prompt": EVIL, "before": EVIL, "after": EVIL}],
        answers=[{"question": EVIL, "answer": EVIL, "truth": EVIL}],
        next_commands=[EVIL, "# " + EVIL],
        notes=[EVIL],
    )
    page = Page(text)
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script> & \"quoted\" 'single' \ufffd \ufffd") >= 15
    text.encode("utf-8")


def test_sections_without_data_are_left_out(metrics: list[dict[str, Any]]) -> None:
    page = Page(render_report(title="Nothing yet"))
    assert "Nothing yet" in page.text
    assert "section" not in page.tags
    assert Page(render_report(title="x", runs={"r": metrics})).tags.count("section") == 1
    nothing = render_report(title="x", runs={"r": [{"step": 1, "loss": math.nan}]}, matrix=Matrix([], [], []))
    assert "section" not in Page(nothing).tags


@pytest.mark.parametrize("steps", [1, 2, 3, 5000])
def test_runs_of_any_length(steps: int) -> None:
    rows = [{"step": step, "loss": 5.0 / step, "lr": 0.0} for step in range(1, steps + 1)]
    text = render_report(title="x", runs={"run": rows})
    assert "nats per token" in Page(text).text
    assert len(text) < 60_000


def test_the_models_own_number_stands_beside_the_baselines(guarded: Matrix) -> None:
    flat = Page(render_report(title="x", baselines={"zlib": 2.5, "model": 1.75})).text
    assert "this model" in flat
    assert "1.75" in flat
    by_domain = Page(render_report(title="x", matrix=guarded, baselines={"code": {"zlib": 2.5}})).text
    assert "1.87" in by_domain


def test_an_empty_answer_is_shown_as_such() -> None:
    page = Page(render_report(title="x", answers=[{"question": "q", "answer": "", "truth": "t"}]))
    assert "(nothing)" in page.text


def test_many_domains_and_cells_not_measured() -> None:
    names = [f"domain {i}" for i in range(8)]
    matrix = Matrix(names, ["start", *names], [[None if i < j else 2.0 + j for j in range(8)] for i in range(9)])
    page = Page(render_report(title="x", matrix=matrix))
    assert page.tags.count("tr") == 10
    assert page.text.count("–") == 28


def test_the_file_is_written(tmp_path: Path, content: dict[str, Any]) -> None:
    write_report(tmp_path / "report.html", **content)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_report(**content)


def test_a_page_has_a_name_of_its_own_and_replaces_reports_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "0001-pretrain"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"status": "finished"}')
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "0001-pretrain-report.html"
    for _ in range(2):  # an earlier report is replaced
        assert main(["report", str(run)]) == 0
        assert page.name in capsys.readouterr().out and "finished" in page.read_text()
    page.write_text("<!doctype html>\n<p>mine</p>")
    for words in ([], ["--out", page.name]):
        assert main(["report", str(run), *words]) == 2
        assert "this is not a report" in capsys.readouterr().err
    assert "mine" in page.read_text()
    assert main(["report", str(run), "--out", str(tmp_path)]) == 2
