"""What lessons do to what a model knew: our ways of teaching beside naive tuning, single remedies and joint training.

    python benchmarks/continual.py --data DIR --work DIR [--json FILE] [--kilobytes 500] [--epochs 3] [--methods ...]

DIR holds folders of text: `manuals` and `wiki` for the base model, then a lesson each on `ops`, `code`, `maths`,
`legal` and `drama` (--base, --domains). Every method starts from a copy of the same base model and teaches the same
training text in the same order; all domains' test text is measured in bits per byte after every lesson. Methods that
are in the JSON file already are not run again. `continual_methods.py` says what each does; none was tuned.

With --orders and --seeds all of it is run for each order of the lessons (the given one, then others by hash) with each
seed, and the tables show mean ± standard deviation over these runs. Text and base model are the same in all.

Once the base model is trained, several of these commands may work on one JSON file side by side, each with methods of
its own: what the file has gained is taken over after every method.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from common import machine, write_json
from continual_methods import METHODS, left_out
from continual_table import report
from lessons_bench import Bench, prepare, train_base

from lifelong.text.splitting import position

# What does not change a figure: a file of results can be gone on with under another value.
_FREE = ("data", "work", "json", "methods", "orders", "seeds")


def main() -> None:
    """Run what is not in the JSON file yet, and print the tables."""
    options = _options()
    settings = {name: str(value) for name, value in vars(options).items() if name not in _FREE}
    done = _read(options.json)
    if done.get("settings", settings) != settings:
        raise SystemExit(f"{options.json} has results of other settings: {done['settings']}; name another file")
    done |= {"machine": machine(), "settings": settings, "left_out": left_out(options.methods)}
    runs = done.setdefault("runs", {})
    prepare(options)
    done["base"] = train_base(options)
    for order in range(options.orders):
        for seed in range(options.seed, options.seed + options.seeds):
            domains = _order(options.domains, order)
            run = runs.setdefault(f"order {order}, seed {seed}", {"domains": domains, "seed": seed, "methods": {}})
            place = options.work / f"order-{order}-seed-{seed}"
            bench = Bench(options, domains, seed, place, run["methods"])
            for name, method in METHODS.items():
                if name in options.methods and name not in run["methods"] and name not in done["left_out"]:
                    began = time.perf_counter()
                    found = method(bench)
                    run["methods"][name] = found | {"wall_seconds": time.perf_counter() - began}
                    _take_over(options.json, runs)
                    write_json(options.json, done)
    report(done)
    write_json(options.json, done)


def _read(path: Path | None) -> dict[str, Any]:
    """Return the results in a file, or none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path and path.is_file() else {}
    return found


def _take_over(path: Path | None, runs: dict[str, Any]) -> None:
    """Add to ``runs`` the methods that another command has written to the file since."""
    for name, run in _read(path).get("runs", {}).items():
        mine = runs.setdefault(name, run)["methods"]
        mine |= {method: found for method, found in run["methods"].items() if method not in mine}


def _order(domains: list[str], number: int) -> list[str]:
    """Return the domains as given for number 0, else in an order by hash."""
    return sorted(domains, key=lambda name: position(name, number)) if number else list(domains)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where models and prepared text go")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--base", nargs="+", default=["manuals", "wiki"])
    parser.add_argument("--domains", nargs="+", default=["ops", "code", "maths", "legal", "drama"])
    parser.add_argument("--kilobytes", type=int, default=500, help="training text of a lesson")
    parser.add_argument("--base-megabytes", type=float, default=8.0, help="training text of the base")
    parser.add_argument("--base-epochs", type=float, default=1.0)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--max-bytes", type=int, default=60_000, help="of every slice that is measured")
    parser.add_argument("--seed", type=int, default=0, help="of text and base model, and the first of the lessons'")
    parser.add_argument("--orders", type=int, default=1, metavar="N", help="orders of the lessons")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds of the lessons")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
