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
    from lifelong.progress import spell_seconds
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
            tokens = f"{row['tokens'] / 1e6:,.1f} M" if row["tokens"] else "as text"
            takes = row["estimated_seconds"]
            time = spell_seconds(takes) if takes else f"{spell_seconds(row['estimated_seconds_per_million_tokens'])}/M"
            name = f"{row['name']} ({row['alias']})" if row["alias"] else row["name"]
            rows.append([name, row["preset"], f"{row['parameters'] / 1e6:,.1f} M", length, tokens, time])
        print_table(["profile", "preset", "weights", "length", "tokens", "time here"], rows)
        print(
            f"Time: an estimate, from a {precision} matrix product measured here ({speed / 1e9:,.0f} GFLOP/s) and each"
        )
        print("shape's operations per token at half of that speed; /M: for a million tokens of text.")
        print("A pipeline's stages are profiles of their own: run them one after the other with `lifelong train`.")
        for row in found:
            print(f"  {row['name']:<14}  {row['description']}")

    emit(found, as_json=as_json, show=show)
