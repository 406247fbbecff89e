"""`lifelong export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lifelong.cli.common import AsJson, Model, configurable, emit, print_table, spell_bytes
from lifelong.settings.export import ExportSettings

if TYPE_CHECKING:
    from lifelong.export.verify import Verification


@configurable(ExportSettings)
def export(
    model: Model,
    *,
    out: Annotated[Path, Parameter(help="The directory to write; an older export of the same kind is replaced.")],
    settings: ExportSettings,
    as_json: AsJson = False,
) -> None:
    """Write a model for other programs, and verify in them that it answers as it was trained to."""
    from lifelong.export.writing import export as write

    result = write(model, out, settings)

    def show() -> None:
        show_verification(result.verification)
        print(f"{settings.to} {settings.rounding}: {out}")

    emit(result.to_dict(), as_json=as_json, show=show)


def show_verification(found: Verification) -> None:
    """Print what verifying found as a table."""
    facts = found.facts
    if found.verified is None:
        print(f"not verified: {found.runtime}\n  {facts['install']}, then: lifelong verify EXPORT MODEL")
        return
    rows = [
        [
            "token ids",
            f"the same for {facts['strings'] - facts['strings_cut_otherwise']:,} of {facts['strings']:,} texts",
        ],
        [
            "loss of a token",
            f"apart by {facts['loss_apart_mean']:.2g} nats on average ({facts['limits'][0]:g} allowed), "
            f"{facts['loss_apart_max']:.2g} at most, of {facts['tokens']:,} tokens",
        ],
        [
            "bits per byte",
            f"trained {facts['bits_per_byte_trained']:.4f}, exported {facts['bits_per_byte_exported']:.4f} "
            f"({facts['bits_per_byte_lost']:+.4f})",
        ],
    ]
    if "texts" in facts:
        rows.append(["greedy text", f"the same for {facts['texts_written_the_same']} of {facts['texts']} beginnings"])
    if "tokens_per_second" in facts:
        rows.append(["speed", f"about {facts['tokens_per_second']:,.0f} tokens/s, one text at a time"])
    for name, one in facts.get("adapters", {}).items():
        said = f"apart by {one['loss_apart_mean']:.2g} nats on average" if one["verified"] else "not verified"
        rows.append([f"adapter {name}", said if one["verified"] else f"{said}: {one['install']}"])
    rows.append(["size on disk", spell_bytes(facts["bytes"])])
    print_table(["verified in", found.runtime], rows)
    aside = facts.get("aside", {})
    if aside.get("refuses"):
        print(f"{aside['name']}: {aside['refuses']}. Give it token ids, encoded with tokenizer.json.")
    elif aside.get("strings_cut_otherwise"):
        print(
            f"{aside['name']} has a tokenizer of its own, which gives {aside['strings_cut_otherwise']:,} of the texts "
            f"other ids (such as {aside['example']!r}): give it token ids, encoded with tokenizer.json."
        )
    if not facts["held_out"]:
        print("The model keeps no held-out text: Python's own documentation stood in.")
