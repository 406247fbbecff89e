"""The page in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driving import done
from lifelong.serve.page import page

EVIL = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


def test_the_page_is_small_and_loads_nothing() -> None:
    body, policy = page()
    assert len(body) < 60_000
    assert "default-src 'none'" in policy and "unsafe" not in policy
    text = body.decode()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="):
        assert way not in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def taught(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a history, a matrix and a run, whose names are hostile."""
    place = tmp_path_factory.mktemp("page") / "my<b>model"
    shutil.copytree(model_dir, place)
    (place / "lifelong").mkdir()
    events = [
        {"event": "train", "domain": "base", "generation": 1, "bits_per_byte": 2.5},
        {"event": "lesson", "session": 1, "domain": EVIL, "generation": 2, "accepted": False, "reasons": [EVIL]},
    ]
    (place / "lifelong" / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    # Wider than a phone, with what only a screen reader says at the far end.
    names, others = ["base", *(f"domain {number}" for number in range(6)), EVIL], [2.0] * 6
    matrix = {"domains": names, "sessions": ["base", EVIL], "bpb": [[2.5, *others, 3.0], [2.6, *others, 2.0]]}
    (place / "lifelong" / "state.json").write_text(json.dumps({"matrix": matrix, "adapters": []}))
    run = place / "runs" / "0001-learn"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "running", "steps": 40, "device": EVIL}))
    rows = [{"step": step, "bits_per_byte": 4 - step / 20, "lr": 0.01 * step} for step in range(1, 21)]
    rows[9]["gate_bits_per_byte"] = 3.7
    rows[19]["gate_bits_per_byte"] = 3.2
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@pytest.mark.browser
def test_f35_the_page_talks_and_shows_what_was_learned_by_keyboard_alone(
    taught: Path, serve: Any, browser: Any
) -> None:
    with serve(taught, temperature=0.0, max_tokens=12) as address:
        context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
        tab = context.new_page()
        tab.set_default_timeout(120_000)
        complaints: list[str] = []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.goto(address)
        tab.wait_for_selector("#question:focus")
        tab.keyboard.type(EVIL)
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".turn.assistant:not([aria-busy])")
        assert tab.inner_text(".turn.user .text") == EVIL
        assert "tokens" in tab.inner_text(".turn.assistant .who")
        wide = "document.documentElement.scrollWidth <= innerWidth"
        assert tab.evaluate(wide)
        tab.focus("#tab-chat")
        tab.keyboard.press("ArrowRight")
        tab.wait_for_selector("#memory:not([hidden]) .heat td.taught")
        assert EVIL in tab.inner_text("#history") and "undone by the gate" in tab.inner_text("#history")
        assert tab.locator(".heat td.worse").count() == 1
        assert tab.evaluate(wide)
        tab.keyboard.press("ArrowRight")
        tab.wait_for_selector("#training:not([hidden]) svg path.held")
        with (taught / "runs" / "0001-learn" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 21, "bits_per_byte": 1.5}\n')
        tab.wait_for_selector("#status:has-text('step 21 of 40')")
        assert tab.evaluate(wide)
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.select_option("#theme", "light")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        unnamed = "[...document.querySelectorAll('input,select,textarea')].filter((one) => !one.labels.length).length"
        assert tab.evaluate(unnamed) == 0
        assert tab.title() == "my<b>model · lifelong"
        assert tab.locator("main img, main script").count() == 0
        assert complaints == []
        context.close()


@pytest.mark.browser
def test_f35_the_page_of_an_export_talks_and_has_no_more_parts(
    model_dir: Path, serve: Any, browser: Any, tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="not installed: pip install 'lifelong[gguf]'")
    done("export", model_dir, "--to", "gguf", "--out", tmp_path / "small-gguf", "--strings", 50, "--tokens", 40)
    with serve(tmp_path / "small-gguf", temperature=0.0, max_tokens=12) as address:
        tab = browser.new_page()
        tab.set_default_timeout(120_000)
        complaints: list[str] = []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(address + "/#memory")
        tab.wait_for_selector("#question:focus")
        assert tab.locator("#tabs [role=tab]:visible").all_inner_texts() == ["Chat"]
        assert tab.locator("#view option").all_inner_texts() == ["base"]
        tab.keyboard.type("What is a list?")
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".turn.assistant:not([aria-busy])")
        assert "tokens" in tab.inner_text(".turn.assistant .who")
        tab.focus("#tab-chat")
        tab.keyboard.press("ArrowRight")
        assert tab.is_visible("#chat")
        assert complaints == []
        tab.close()
