"""`lifelong cache build`, `build-all`, `show` and `mix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from lifelong import progress
from lifelong.cli.common import AsJson, Sources, configurable, emit, print_table, spell_bytes
from lifelong.errors import LifelongError
from lifelong.settings.cache import AllCachesSettings, CacheSettings

app = App(name="cache", help="Build token caches, show them, plan a mixture of them.")
Tokenizer = Annotated[Path, Parameter(help="A tokenizer directory, or a model directory.")]
Out = Annotated[Path, Parameter(help="The folder of all caches.")]
Fresh = Annotated[bool, Parameter(negative=(), show_default=False, help="Build anew what is there.")]


@app.command
@configurable(CacheSettings)
def build(
    sources: Sources,
    *,
    tokenizer: Tokenizer,
    out: Out,
    settings: CacheSettings,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Encode text into shards: OUT/pretrain/NAME of running text, OUT/sft/NAME of conversations.

    A build that was cut off goes on where it stopped; one that is up to date is left as it is.
    """
    from lifelong.tokens.cache_sets import build_named
    from lifelong.tokens.loading import load_tokenizer

    result = build_named(sources, load_tokenizer(tokenizer), out, settings, fresh=fresh)
    emit(result, as_json=as_json, show=lambda: _show_built(result))


@app.command
@configurable(AllCachesSettings)
def build_all(
    *,
    tokenizer: Tokenizer,
    out: Annotated[Path, Parameter(name=["--out", "--cache-dir"], help="The folder of all caches.")],
    roam_dir: Annotated[Path | None, Parameter(help="A Roam export, for the set 'roam'.")] = None,
    primer: Annotated[Path | None, Parameter(help="A file of primer dialogues, for the set 'primer'.")] = None,
    skip: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=(), help="Sets to leave out.")] = None,
    settings: AllCachesSettings,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Build fineweb_edu, wikitext, dolly15k, oasst1, and your own roam and primer.

    A set that cannot be had is named at the end, with exit code 2; the others are built.
    """
    from lifelong.tokens.build_all import build_all as run
    from lifelong.tokens.loading import load_tokenizer

    result = run(
        load_tokenizer(tokenizer), out, settings, roam_dir=roam_dir, primer=primer, skip=skip or [], fresh=fresh
    )

    def show() -> None:
        for built in result["built"].values():
            _show_built(built)

    emit(result, as_json=as_json, show=show)
    if failed := result["failed"]:
        raise LifelongError(
            f"not built: {', '.join(failed)} (the reasons are above)",
            fix=f"Run the same command again when they can be had, or leave them out: --skip {' '.join(failed)}.",
        )


@app.command
def show(
    path: Annotated[Path, Parameter(help="A cache, or a folder of caches.")],
    *,
    sample: Annotated[int | None, Parameter(help="Show this document of a cache, counted from 0, decoded.")] = None,
    tokenizer: Annotated[Path | None, Parameter(help="The tokenizer (default: the one beside the cache).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what caches hold, or one document of a cache; what is trained on is coloured."""
    from lifelong.tokens.shards import is_cache, open_cache

    if sample is not None:
        _show_sample(path, sample, tokenizer, as_json)
        return
    places = [path] if is_cache(path) else sorted(p.parent for p in path.rglob("meta.json") if is_cache(p.parent))
    if not places:
        raise LifelongError("no token cache here", where=str(path), fix="Build one with `lifelong cache build`.")
    facts = {str(place): open_cache(place).to_dict() for place in places}
    rows = [
        [
            str(place.relative_to(path)) if place != path else place.name,
            f"{facts[str(place)]['tokens']:,}",
            f"{facts[str(place)]['trained_tokens']:,}",
            f"{facts[str(place)]['documents']:,}",
            spell_bytes(facts[str(place)]["bytes"]),
            str(len(facts[str(place)]["shards"])),
        ]
        for place in places
    ]
    columns = ["cache", "tokens", "trained on", "documents", "text", "shards"]
    emit(facts, as_json=as_json, show=lambda: print_table(columns, rows, title=str(path)))


@app.command
def mix(
    path: Annotated[Path, Parameter(help="The folder of caches.")],
    *,
    mixture: Annotated[
        list[str] | None,
        Parameter(name="--mix", consume_multiple=True, negative=(), help="NAME=WEIGHT ... (default: all, by tokens)."),
    ] = None,
    tokens: Annotated[int | None, Parameter(help="Tokens to be drawn (default: one epoch of all).")] = None,
    kind: Annotated[Literal["pretrain", "sft"], Parameter(help="Which caches.")] = "pretrain",
    max_epochs: Annotated[float, Parameter(help="The most that a source is repeated.")] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Show what a mixture of caches would be made of: source, share, tokens, epochs."""
    from lifelong.settings.mixing import parse_weights
    from lifelong.tokens.mixture import open_mixture, plan_mixture

    named = open_mixture(path, parse_weights(mixture) if mixture else None, kind=kind)
    sizes = {item.name: item.cache.tokens for item in named}
    weights = {item.name: item.weight for item in named}
    planned = plan_mixture(sizes, weights, tokens or sum(sizes.values()), max_epochs=max_epochs)

    def show() -> None:
        print("\n".join(planned.lines()))
        for warning in planned.warnings:
            print(f"note: {warning}")

    emit(planned.to_dict(), as_json=as_json, show=show)


def _show_built(result: dict[str, Any]) -> None:
    if result["up_to_date"]:
        print(f"'{result['name']}' is up to date:")
    for cache in result["caches"]:
        print(
            f"{cache['path']}: {cache['tokens']:,} tokens of {progress.spell_count(cache['documents'], 'document')} "
            f"({spell_bytes(cache['bytes'])}), {progress.spell_count(cache['shards'], 'shard')}"
        )
    if result["up_to_date"]:
        return
    for source in result["text"]["sources"]:
        for reason, dropped in source["dropped"].items():
            print(f"{source['path']}: dropped, {reason}: {dropped['count']:,} (such as {dropped['examples'][0]})")
    for label, count in result["over_budget"].items():
        print(f"{label}: {count:,} documents were over the token budget")
    if result["stopped_early"]:
        print("Reading stopped there: all budgets are full.")
    for warning in result["text"]["warnings"]:
        print(f"note: {warning}")


def _show_sample(path: Path, index: int, tokenizer: Path | None, as_json: bool) -> None:
    from lifelong.cli.validation_view import coloured
    from lifelong.tokens.decoding import tokenizer_of
    from lifelong.tokens.loading import load_tokenizer
    from lifelong.tokens.shards import open_cache
    from lifelong.tokens.showing import spans

    cache = open_cache(path)
    if not 0 <= index < cache.documents:
        raise LifelongError(
            f"there is no document {index}", where=str(path), fix=f"It holds 0 to {cache.documents - 1}."
        )
    words = load_tokenizer(tokenizer) if tokenizer else tokenizer_of(cache)
    cache.check_tokenizer(words)
    ids, trained = cache.document(index)
    found = spans(words, ids.tolist(), trained.tolist())
    facts = {
        "document": index,
        "tokens": len(ids),
        "trained_tokens": int(trained.sum()),
        "ids": ids.tolist(),
        "pieces": [span._asdict() for span in found],
    }

    def show() -> None:
        from rich.console import Console

        console = Console(highlight=False)
        console.print(coloured(found, plain=not console.is_terminal))
        print(f"document {index} of {cache.documents:,}: {len(ids):,} tokens, {int(trained.sum()):,} trained on")

    emit(facts, as_json=as_json, show=show)
