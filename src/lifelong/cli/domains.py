"""`lifelong domains`."""

from __future__ import annotations

from lifelong.cli.common import AsJson, Model, emit, print_table


def domains(model: Model, *, as_json: AsJson = False) -> None:
    """What a model was taught: of each domain its adapters, what is remembered of it, and its bits per byte."""
    from lifelong.learn.domains import list_domains

    found = list_domains(model)

    def show() -> None:
        rows = [
            [
                item["domain"],
                ", ".join(item["adapters"]) or "-",
                f"{item['remembered']:,} ({item['remembered_bytes'] / 1e3:,.0f} kB)",
                f"{item['gate_documents']:,} + {item['test_documents']:,}",
                "yes" if item["guarded"] else "-",
                "-" if item["bits_per_byte"] is None else f"{item['bits_per_byte']:.3f}",
            ]
            for item in found
        ]
        if rows:
            print_table(["domain", "adapters", "remembered", "gate + test", "EWC", "bits/byte"], rows)
        else:
            print("This model was taught nothing here.")

    emit({"domains": found}, as_json=as_json, show=show)
