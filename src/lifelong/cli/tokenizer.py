"""`lifelong tokenizer train`, `import`, `show` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from lifelong import progress
from lifelong.cli.common import AsJson, DryRun, Sources, configurable, emit, print_facts, print_table, spell_bytes
from lifelong.settings.prepare import TokenizerSettings

if TYPE_CHECKING:
    from lifelong.tokens import Tokenizer

app = App(name="tokenizer", help="Train a tokenizer, import one, look at one, or compare some.")

_PATH = "A tokenizer directory, its tokenizer.json, a spm.model, or a model directory."


@app.command
@configurable(TokenizerSettings)
def train(
    sources: Sources,
    *,
    out: Annotated[Path, Parameter(help="The tokenizer directory to write.")],
    settings: TokenizerSettings,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a tokenizer on the train split of text; a folder of raw text is split first, so that tests stay unseen."""
    from lifelong.tokens.training import train_from_sources

    emit(train_from_sources(sources, out, settings, dry_run=dry_run), as_json=as_json)


@app.command(name="import")
def import_(
    path: Annotated[Path, Parameter(help="A tokenizer.json or spm.model, or a directory that holds one.")],
    *,
    out: Annotated[Path, Parameter(help="The tokenizer directory to write.")],
    as_json: AsJson = False,
) -> None:
    """Take over a tokenizer made elsewhere: its ids stay, and the tokens of the chat format are added at the end."""
    from lifelong.files import claim_output
    from lifelong.tokens.imported import import_tokenizer

    claim_output(out, "tokenizer")
    tokenizer, notes = import_tokenizer(path)
    tokenizer.save(out)
    facts = {"out": str(out), **_facts(tokenizer), "changes": notes}

    def show_facts() -> None:
        print_facts({name: value for name, value in facts.items() if name != "changes"})
        for line in notes:
            print(f"note: {line}")

    emit(facts, as_json=as_json, show=show_facts)


def _facts(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": tokenizer.vocab_size,
        "eos_id": tokenizer.eos_id,
        "pad_id": tokenizer.pad_id,
        "end_of_turn_id": tokenizer.end_of_turn_id,
        "role_token_ids": {role: tokenizer.role_id(role) for role in ("system", "user", "assistant")},
        "fingerprint": tokenizer.fingerprint,
    }


@app.command
def show(
    path: Annotated[Path, Parameter(help=_PATH)],
    *,
    text: Annotated[str | None, Parameter(help="Show how this text is cut into tokens.")] = None,
    special: Annotated[
        bool, Parameter(negative=(), help="Take special tokens spelled in the text as such; otherwise they are text.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a tokenizer's size and special tokens, and how it cuts a text."""
    from lifelong.tokens import load_tokenizer
    from lifelong.tokens.pieces import piece

    tokenizer = load_tokenizer(path)
    facts = _facts(tokenizer)
    if text is None:
        emit(facts, as_json=as_json)
        return
    ids = tokenizer.encode_marked(text) if special else tokenizer.encode(text)
    size = len(text.encode("utf-8"))
    facts |= {"tokens": len(ids), "bytes_per_token": size / len(ids) if ids else None, "ids": ids}
    facts["pieces"] = [piece(tokenizer, token) for token in ids]

    def show_pieces() -> None:
        print_facts({name: value for name, value in facts.items() if name not in ("ids", "pieces")})
        print()
        _print_pieces(facts["pieces"], [token in tokenizer.special_ids for token in ids])

    emit(facts, as_json=as_json, show=show_pieces)


def _print_pieces(pieces: list[str], special: list[bool]) -> None:
    """Print pieces on alternating grounds, special tokens inverted; with bars between them where there is no colour."""
    from rich.console import Console
    from rich.text import Text

    visible = [piece.replace("\n", "\u23ce\n").replace("\t", "\u21e5\t").replace("\r", "\u240d") for piece in pieces]
    console = Console()
    if not console.is_terminal:
        print("|".join(visible))
        return
    line = Text()
    for number, (piece, marked) in enumerate(zip(visible, special, strict=True)):
        ground = "black on cyan" if number % 2 else "black on yellow"
        line.append(piece, style="bold white on magenta" if marked else ground)
    console.print(line)


@app.command
def compare(
    tokenizers: Annotated[list[Path], Parameter(consume_multiple=True, negative=(), help=_PATH)],
    *,
    data: Annotated[list[str], Parameter(consume_multiple=True, negative=(), help="Text: PATH[:KIND][@WEIGHT]...")],
    split: Annotated[
        Literal["train", "gate", "test"], Parameter(help="The split of the data that is encoded.")
    ] = "test",
    seed: Annotated[int, Parameter(help="Seed of the split of raw text.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare tokenizers on held-out text: how short they make it, how fast, and what they lose."""
    from dataclasses import asdict

    from lifelong.errors import LifelongError
    from lifelong.text import open_corpus
    from lifelong.tokens.compare import compare as measure

    texts = [document.text for document in open_corpus(data, seed=seed).split(split)]
    if not texts:
        raise LifelongError(f"the {split} split is empty", fix="Give more text, or another --split.")
    rows = [asdict(row) for row in measure(tokenizers, texts)]
    size = sum(len(text.encode("utf-8")) for text in texts)
    result = {"split": split, "documents": len(texts), "bytes": size, "tokenizers": rows}

    def show_table() -> None:
        columns = ["tokenizer", "entries", "tokens", "B/token", "parts", "unknown", "back", "MB/s"]
        names = [path.name for path in tokenizers]
        cells = [
            [
                name if names.count(name) == 1 else row["tokenizer"],
                f"{row['vocab_size']:,}",
                f"{row['tokens']:,}",
                f"{row['bytes_per_token']:.3f}",
                f"{row['fragments']:.2%}",
                f"{row['unknown']:.2%}",
                f"{row['round_trips']:.0%}",
                f"{row['megabytes_per_second']:.1f}",
            ]
            for name, row in zip(names, rows, strict=True)
        ]
        print(f"The {split} split: {progress.spell_count(len(texts), 'document')}, {spell_bytes(size)}.")
        print_table(columns, cells)
        print("parts: tokens that spell no whole character; back: texts that their ids give back as they were.")

    emit(result, as_json=as_json, show=show_table)
