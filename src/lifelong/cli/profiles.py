"""`lifelong profiles`."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from lifelong.cli.common import AsJson, emit, print_table


def profiles(
    *,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Named settings of runs for `lifelong train --profile`: length, tokens, and the estimated time on this machine."""
    import torch

    from lifelong.device import matmul_flops, pick_device, pick_precision
    from lifelong.settings.profiles import Cost, Profile, cost, list_profiles

    place = pick_device(device)
    precision = pick_precision(place)
    size = (1024, 512, 512) if place.type == "cpu" else (8192, 4096, 4096)  # enough to keep a GPU busy
    speed = matmul_flops(place, torch.bfloat16 if precision == "bf16" else torch.float32, size)
    named = {profile.name: profile for profile in list_profiles()}

    def describe(profile: Profile) -> dict[str, Any]:
        settings = [named[stage].settings() for stage in profile.stages] or [profile.settings()]
        costs: list[Cost] = [cost(one, speed) for one in settings]
        known = [one for one in costs if one.tokens is not None and one.seconds is not None]
        return {
            "name": profile.name,
            "alias": profile.alias,
            "description": profile.description,
            "phase": [one.phase for one in settings] if profile.stages else settings[0].phase,
            "stages": list(profile.stages),
            "preset": settings[0].preset,
            "parameters": costs[0].parameters,
            "steps": sum(one.steps or 0 for one in settings) or None,
            "epochs": settings[0].epochs,
            "tokens": sum(one.tokens or 0 for one in known) if known else None,
            "estimated_seconds": sum(one.seconds or 0.0 for one in known) if known else None,
            "estimated_seconds_per_million_tokens": costs[0].seconds_per_million,
        }

    found = [describe(profile) for profile in named.values()]

    def show() -> None:
        rows = []
        for row in found:
            length = f"{row['steps']:,} steps" if row["steps"] else f"{row['epochs']:g} epochs"
            tokens = _spell_count(row["tokens"]) if row["tokens"] else ""
            takes = row["estimated_seconds"]
            time = _spell_time(takes) if takes else f"{_spell_time(row['estimated_seconds_per_million_tokens'])} / M"
            shape = f"{row['preset']} {_spell_count(row['parameters'])}"
            rows.append([row["name"], shape, length, tokens, time])
        print_table(["profile", "model", "length", "tokens", "time here"], rows)
        for row in found:
            alias = f" (also: {row['alias']})" if row["alias"] else ""
            print(f"  {row['name']:<14}  {row['description']}{alias}")
        print(f"\nTime is an estimate: {precision} matrix products, {speed / 1e9:,.0f} GFLOP/s measured just now, and")
        print("the operations per token of each shape at half of that speed; / M: for each million tokens trained.")
        print("`lifelong pipeline --profile NAME` runs all stages of a pipeline, `lifelong train` one of them.")

    emit(found, as_json=as_json, show=show)


def _spell_count(count: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count / size:.0f} {unit}"
    return str(count)


def _spell_time(seconds: float) -> str:
    from lifelong.progress import spell_seconds

    return spell_seconds(seconds) if seconds < 2 * 86400 else f"{seconds / 86400:,.0f} days"
