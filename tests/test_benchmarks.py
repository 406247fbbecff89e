"""The training benchmarks run to their end at the smallest size, and what they write is whole. No speed is tested."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = ["--d-model", "32", "--layers", "1", "--heads", "2", "--vocab", "300", "--length", "16", "--batch", "2"]

pytestmark = pytest.mark.slow


def run(name: str, tmp_path: Path, *flags: str) -> dict[str, Any]:
    """Run a benchmark as its README says, and return what it wrote."""
    out = tmp_path / "result.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), *flags, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_training_speed_times_every_contestant_or_names_it(tmp_path: Path) -> None:
    result = run("training_speed", tmp_path, *SMALL, "--threads", "1", "--rounds", "2")
    named = " ".join([*result["results"], *result["left_out"]])
    for contestant in ("lifelong", "transformers Llama", "transformers Trainer", "litgpt", "nanoGPT"):
        assert contestant in named
    ours = next(iter(result["results"].values()))
    assert ours["ours_over_this"] == 1.0
    for row in result["results"].values():
        assert len(row["step_seconds"]) == len(row["forward_backward_seconds"]) == 2
        # A loop that is stopped at the wrong place shows as a step that takes no time.
        assert min(row["step_seconds"]) > 0.1 * min(row["forward_backward_seconds"])


def test_a_preset_gives_the_shape_and_flags_change_it(tmp_path: Path) -> None:
    flags = ["--preset", "nano", "--layers", "1", "--length", "16", "--batch", "2", "--threads", "1", "--rounds", "1"]
    model = run("training_speed", tmp_path, *flags)["model"]
    assert (model["d_model"], model["num_kv_heads"], model["vocab_size"], model["num_layers"]) == (192, 1, 4096, 1)


def test_time_to_quality_changes_one_part_at_a_time(tmp_path: Path) -> None:
    size = ["--rows", "2", "--corpus-bytes", "400000", "--eval-bytes", "4000", "--bar-tokens", "100"]
    result = run("time_to_quality", tmp_path, *SMALL, *size, "--threads", "1", "--budgets", "3", "--ablate")
    whole = next(row for row in result["runs"] if row["name"] == "lifelong, 3 steps")
    changed = [row for row in result["runs"] if "above_whole" in row]
    assert len(changed) >= 6
    for row in changed:
        assert row["tokens"] == whole["tokens"]
        assert row["above_whole"] == pytest.approx(row["bits_per_byte"] - whole["bits_per_byte"])


def test_overhead_accounts_for_the_whole_run(tmp_path: Path) -> None:
    flags = ["--preset", "nano", "--minutes", "0.1", "--checkpoint-minutes", "0.001", "--corpus-bytes", "300000"]
    result = run("overhead", tmp_path, *flags, "--runs", "25", "600")
    assert result["steps"] + sum(sum(times) for times in result["spent"].values()) <= result["seconds"] * 1.01
    shares = [sum(shares.values()) for shares in result["longer"].values()]
    assert shares[1] < shares[0]


def test_two_processes_lose_as_one_does(tmp_path: Path) -> None:
    shape = ["--width", "32", "--layers", "1", "--heads", "2", "--length", "32", "--batch", "4", "--steps", "6"]
    runs = run("several", tmp_path, *shape)["runs"]
    assert len(runs) == 4
    for item in runs:
        assert item["loss"] == pytest.approx(runs[0]["loss"], rel=1e-4)


def test_every_way_of_waiting_is_measured_alone_and_beside_a_busy_process(tmp_path: Path) -> None:
    flags = ["--batch", "1", "--length", "16", "--seconds", "0.1", "--rounds", "1", "--threads", "1"]
    speeds = run("busy", tmp_path, *flags)["tokens_per_second"]
    assert len(speeds) == 3 and all(min(each.values()) > 0 for each in speeds.values())


def test_lessons_are_measured_over_orders_and_gone_on_with(tmp_path: Path) -> None:
    library = Path(json.__file__).parent.parent
    for name, package in {"manuals": "asyncio", "ops": "email", "code": "unittest"}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((library / package).glob("*.py"))[:25]:
            (tmp_path / "data" / name / f"{file.stem}.txt").write_text(file.read_text(encoding="utf-8"))
    flags = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--base", "manuals"]
    flags += ["--domains", "ops", "code", "--kilobytes", "10", "--base-megabytes", "0.05", "--vocab", "300"]
    flags += ["--epochs", "1", "--max-bytes", "2000", "--orders", "2", "--methods"]
    first = run("continual", tmp_path, *flags, "naive")
    result = run("continual", tmp_path, *flags, "naive", "joint")
    assert len(result["runs"]) == 2
    for key, item in result["runs"].items():
        assert sorted(item["domains"]) == ["code", "ops"]
        assert item["methods"]["naive"]["rows"] == first["runs"][key]["methods"]["naive"]["rows"]  # not run again
        assert item["methods"]["joint"]["figures"]["gap closed"] == pytest.approx(1)


def test_losses_count_from_where_a_domain_was_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from continual_table import report

    def method(*rows: tuple[float, float, float], order: tuple[str, str]) -> dict[str, Any]:
        bits = [dict(zip(("base", *order), row, strict=True)) for row in rows]
        return {"rows": bits, "tokens": 1, "flops": 1, "seconds": 1}

    done: dict[str, Any] = {"runs": {}, "left_out": {}, "base": {}}
    for number, (order, lost) in enumerate([(("a", "b"), 2.2), (("b", "a"), 2.4)]):
        naive = method((2, 4, 4), (2.5, 2, 4), (3, lost, 2), order=order)
        joint = method((2, 4, 4), (1.9, 2, 2), order=order)
        methods = {"naive": naive, "joint": joint}
        done["runs"][str(number)] = {"domains": list(order), "seed": 0, "methods": methods}
    report(done)
    figures = [item["methods"]["naive"]["figures"] for item in done["runs"].values()]
    assert [each["worst loss"] for each in figures] == pytest.approx([0.5, 0.5])
    assert [each["mean loss"] for each in figures] == pytest.approx([(0.5 + 0.1) / 2, (0.5 + 0.2) / 2])
    summary = done["summary"]
    assert summary["joint"]["worst loss"] == {"mean": pytest.approx(-0.05), "deviation": pytest.approx(0)}
    assert summary["naive"]["mean loss"] == {"mean": pytest.approx(0.325), "deviation": pytest.approx(0.05 / 2**0.5)}
    assert (summary["naive"]["gap closed"]["mean"], summary["joint"]["gap closed"]["mean"]) == (0, 1)


def test_fewer_experts_keep_fewer_keys_and_values(tmp_path: Path) -> None:
    size = ["--preset", "nano", "--adapters", "3", "--prompt", "5", "--tokens", "3", "--rounds", "1", "--threads", "1"]
    runs = run("top_experts", tmp_path, *size)["runs"]
    assert [item["experts"] for item in runs] == [4, 3, 2, 1]
    assert [item["cache_bytes"] * 4 / runs[0]["cache_bytes"] for item in runs] == [4, 3, 2, 1]


def test_nanogpts_face_takes_what_the_loop_and_the_score_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from nanogpt import NanoGPT

    from lifelong.model.base import LanguageModel

    for name in ("loss_sum", "token_losses"):
        wanted, given = (inspect.signature(getattr(owner, name)).parameters for owner in (LanguageModel, NanoGPT))
        assert list(wanted) == list(given)
    assert {"device", "experts"} <= vars(NanoGPT).keys()
