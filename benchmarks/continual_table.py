"""The tables of `continual.py`: what was lost, how much of the gap to joint training was closed, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from common import print_table
from continual_methods import METHODS
from lessons_bench import BASE

Figures = dict[str, float]
Run = dict[str, Any]  # the methods of one order and seed, by name
# Of each column: its figure, how it is written, the factor to its unit, and the unit.
_COSTS = {
    "worst loss": ("+.1f", 100, "%"),
    "mean loss": ("+.1f", 100, "%"),
    "gap closed": (".0f", 100, "%"),
    "average": (".3f", 1, ""),
    "M tokens": (".2f", 1e-6, ""),
    "TFLOP": (".1f", 1e-12, ""),
    "minutes": (".1f", 1 / 60, ""),
}


def report(done: dict[str, Any]) -> None:
    """Add figures and their summary to the results, and print them.

    A loss is the relative change in a domain's bits per byte since it was taught (the base's text: since the start).
    The gap is that between naive tuning and joint training, in the average over all domains. What one run alone has is
    not set beside means of several: there are tables of the methods that all runs have, mean ± standard deviation, and
    of each run.
    """
    for run in done["runs"].values():
        for name in run["methods"]:
            run["methods"][name]["figures"] = _figures(run["methods"], name, [BASE, *run["domains"]])
    runs: list[Run] = [run["methods"] for run in done["runs"].values()]
    shared = [name for name in METHODS if all(name in run for run in runs)]
    done["summary"] = {name: _summary([run[name]["figures"] for run in runs]) for name in shared}
    if len(runs) > 1 and shared:
        _print(done, f"{len(runs)} runs", next(iter(done["runs"].values()))["domains"], shared, runs)
    for title, run in done["runs"].items():
        _print(done, title, run["domains"], [name for name in METHODS if name in run["methods"]], [run["methods"]])


def _print(done: dict[str, Any], title: str, domains: list[str], names: list[str], runs: list[Run]) -> None:
    """Print the tables of some methods in some runs."""
    every = {name: [run[name]["figures"] for run in runs] for name in names}
    notes = _notes(done, [{name: run[name] for name in names} for run in runs])
    rows = [[name, *(_spell(found, *_COSTS[key], key=key) for key in _COSTS)] for name, found in every.items()]
    print_table(f"What was lost in a sequence of lessons, {title}", ["method", *_COSTS], rows, notes)
    rows = [[name, *(_spell(found, ".3f", key=key) for key in (BASE, *domains))] for name, found in every.items()]
    print_table(f"Test bits per byte after the last lesson, {title}", ["method", BASE, *domains], rows)


def _figures(run: Run, name: str, domains: list[str]) -> Figures:
    """Return the figures of a method in one run; ``domains`` are the base and those taught, in their order."""
    rows, average = run[name]["rows"], {each: mean(run[each]["rows"][-1].values()) for each in run}
    losses = [
        rows[-1][domain] / rows[number][domain] - 1
        for number, domain in enumerate(domains[: len(rows) - 1])  # nothing came after the last lesson
    ]
    figures = {
        "worst loss": max(losses),
        "mean loss": mean(losses),
        "average": average[name],
        "M tokens": run[name]["tokens"],
        "TFLOP": run[name]["flops"],
        "minutes": run[name]["seconds"],
        **rows[-1],
    }
    if {"naive", "joint"} <= run.keys():
        figures["gap closed"] = (average["naive"] - average[name]) / (average["naive"] - average["joint"])
    return figures


def _summary(found: list[Figures]) -> dict[str, Any]:
    """Return mean and standard deviation over the runs of every figure that all have."""
    values = {key: [each[key] for each in found] for key in found[0] if all(key in each for each in found)}
    return {key: {"mean": mean(v), "deviation": stdev(v) if len(v) > 1 else None} for key, v in values.items()}


def _spell(found: Sequence[Figures], form: str, factor: float = 1, unit: str = "", *, key: str) -> str:
    values = [each[key] * factor for each in found if key in each]
    if not values:
        return "-"
    spread = f" ± {stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{spread}{unit}"


def _notes(done: dict[str, Any], runs: list[Run]) -> list[str]:
    """Return what stands below the table; naive tuning's losses first, for without them there is nothing to measure."""
    notes = []
    if lost := [run["naive"]["figures"] for run in runs if "naive" in run]:
        on_all, on_worst = (_spell(lost, ".1f", 100, "%", key=key) for key in ("mean loss", "worst loss"))
        notes.append(f"naive loses {on_all} on what was known, {on_worst} where it loses most")
    if found := [run["routed"] for run in runs if "routed" in run]:
        keys = ("worst_excess_bits", "worst_excess_bits_of_answers", "adapter_bytes", "memory_bytes", "fisher_bytes")
        most = {key: max(each[key] for each in found) for key in keys}
        notes.append(
            f"routed: a document costs at most {most['worst_excess_bits']:.3f} bits more than under its best expert "
            f"(bound {found[0]['bound_bits']:.3f}), the answers of a conversation, which have none, "
            f"{most['worst_excess_bits_of_answers']:.1f}; an adapter takes "
            f"{most['adapter_bytes'] / done['base']['model_bytes']:.1%} of the model's bytes, the memory "
            f"{most['memory_bytes'] / 1e6:.1f} MB, the Fisher information {most['fisher_bytes'] / 1e6:.1f} MB"
        )
    if over := [{"over": _average(run, "routed") / _average(run, "isolated") - 1} for run in runs if "isolated" in run]:
        spelled = _spell(over, "+.2f", 100, "%", key="over")
        notes.append(f"routed against isolated, whose oracle names the domain: {spelled} bits per byte on average")
    if parts := [{"part": part} for run in runs if (part := _part_of_retraining(run)) is not None]:
        spelled = _spell(parts, ".1f", 100, "%", key="part")
        reckoned = "" if all("cumulative" in run for run in runs) else ", which is reckoned from joint"
        what = f"the FLOPs of retraining on all text after each lesson{reckoned}"
        notes.append(f"routed and consolidated take {spelled} of {what}")
    if len(runs) > 1 and all({"naive", "joint", "consolidated"} <= run.keys() for run in runs):
        naive, joint, ours = (sum(_average(run, name) for run in runs) for name in ("naive", "joint", "consolidated"))
        notes.append(f"consolidated closes {(naive - ours) / (naive - joint):.1%} of the gaps of all runs together")
    if any({"consolidated", "again"} & run.keys() for run in runs):
        notes.append("consolidated and again: the cost is what comes on top of routed")
    lacking = {name: why for name, why in done["left_out"].items() if not all(name in run for run in runs)}
    return notes + [f"left out: {name} ({why})" for name, why in lacking.items()]


def _average(run: Run, name: str) -> float:
    value: float = run[name]["figures"]["average"]
    return value


def _part_of_retraining(run: Run) -> float | None:
    """Return our FLOPs over those of retraining after each of n lessons: as counted, or (n + 1) / 2 joint runs."""
    if not {"routed", "consolidated"} <= run.keys() or not {"joint", "cumulative"} & run.keys():
        return None
    lessons = len(run["routed"]["rows"]) - 1
    whole = run["cumulative"]["flops"] if "cumulative" in run else run["joint"]["flops"] * (lessons + 1) / 2
    part: float = (run["routed"]["flops"] + run["consolidated"]["flops"]) / whole
    return part
