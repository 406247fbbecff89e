"""Data sets of the Hugging Face hub, streamed: four with their own columns, any other by the columns it has."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.text.document import HUB_PREFIX, BadInput, Document, join_messages
from lifelong.text.readers.facts import split_name
from lifelong.text.readers.mappings import Rows, with_split
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

LOCAL_COPIES = "LIFELONG_HUB_DIR"
_Rows = Iterable[dict[str, Any]]
# Reads the rows of one split.
_Preset = Callable[["SourceFile", str, _Rows, OnProblem], Iterator[Document]]


@dataclass(frozen=True, slots=True)
class HubSet:
    """Where a data set lies on the hub, and how its rows are read."""

    name: str
    config: str | None
    read: _Preset


def read_hub(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    """Yield the documents of a data set of the hub, row by row as it streams.

    A data set with more than one split of its own writes it into ``meta["split"]``: train, gate (validation) or test.
    With the environment variable ``LIFELONG_HUB_DIR`` the files below ``<that folder>/<preset or name>/`` are read
    instead (``.parquet`` or ``.jsonl``, each named after its split), and nothing goes over the network.

    Raises:
        BadInput: ``unreadable``: there is no such data set, or it cannot be reached.
    """
    spelled = str(file.source.path).removeprefix(HUB_PREFIX)
    name, _, config = spelled.partition(":")
    preset = PRESETS.get(name) or next((p for p in PRESETS.values() if p.name.lower() == name.lower()), None)
    preset = preset or HubSet(name, None, _any)
    short = next((key for key, value in PRESETS.items() if value is preset), name)
    try:
        splits = _open(short, preset.name, config or preset.config)
        own = {split: split_name(split) for split in splits} if len(splits) > 1 else {}
        for split, rows in splits.items():
            for document in preset.read(file, split, rows, report):
                yield with_split(document, own.get(split))
    except LifelongError:
        raise
    except ModuleNotFoundError:
        raise
    except Exception as error:  # datasets raises whatever its many layers raise
        why = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
        raise BadInput(
            "unreadable",
            f"the data set cannot be read: {type(error).__name__}: {why}",
            where=str(file.source.path),
            fix=f"Check its name and the network, or name a folder with a local copy in {LOCAL_COPIES}.",
            fatal=True,
        ) from error


def _open(short: str, name: str, config: str | None) -> dict[str, _Rows]:
    import datasets

    datasets.disable_progress_bars()
    if folder := os.environ.get(LOCAL_COPIES):
        found = _local(Path(folder), short, name)
        streams = datasets.load_dataset(found[0], data_files=found[1], streaming=True)
    else:
        streams = datasets.load_dataset(name, config, streaming=True)
    return dict(streams)


def _local(folder: Path, short: str, name: str) -> tuple[str, dict[str, list[str]]]:
    """Return the builder and the files of each split of a local copy; ``validation-00000.parquet`` is validation."""
    place = next((folder / part for part in (short, name) if (folder / part).is_dir()), None)
    files = sorted(place.rglob("*")) if place else []
    for builder, suffixes in {"parquet": (".parquet",), "json": (".jsonl", ".jsonl.gz", ".jsonl.zst")}.items():
        splits: dict[str, list[str]] = {}
        for file in files:
            if file.name.endswith(suffixes):
                word = re.split(r"[-_.]", file.name)[0]
                splits.setdefault(word if split_name(word) else "train", []).append(str(file))
        if splits:
            order = ("train", "gate", "test")
            return builder, dict(sorted(splits.items(), key=lambda item: order.index(split_name(item[0]) or "train")))
    raise BadInput(
        "unreadable",
        f"no local copy of the data set {short!r} ({LOCAL_COPIES} is set)",
        where=str(folder / short),
        fix="Put its .parquet or .jsonl files there, or unset the variable.",
        fatal=True,
    )


def _any(file: SourceFile, split: str, rows: _Rows, report: OnProblem) -> Iterator[Document]:
    """Read a data set by the columns it has, as any other table."""
    for document in Rows(file, report).documents((number, dict(row)) for number, row in enumerate(rows, start=1)):
        yield _named(document, file, split)


def _named(document: Document, file: SourceFile, split: str) -> Document:
    return dataclasses.replace(document, source=f"{file.path}/{split}", name=f"{file.name}/{split}")


def _text(file: SourceFile, split: str, number: int, text: str, facts: dict[str, Any], kind: str = "text") -> Document:
    name = f"{file.name}/{split}"
    return Document(text, f"{file.path}/{split}", name, kind, weight=file.weight, line=number, meta=facts)


def _fineweb(file: SourceFile, split: str, rows: _Rows, report: OnProblem) -> Iterator[Document]:
    """FineWeb-Edu: ``text``; of its facts the id, url and score are kept."""
    for number, row in enumerate(rows, start=1):
        if text := _string(row, "text", file, split, number, report):
            facts = {key: row[key] for key in ("id", "url", "score") if row.get(key) is not None}
            yield _text(file, split, number, text, facts)


_TITLE = re.compile(r"\s*= ([^=\s].*?) =\s*")


def _wikitext(file: SourceFile, split: str, rows: _Rows, report: OnProblem) -> Iterator[Document]:
    """WikiText: a row is a line; an article begins at a heading of the first level, `` = Title = ``."""
    lines: list[str] = []
    title, first, blank = "", 1, True
    for number, row in enumerate(rows, start=1):
        line = row.get("text")
        if not isinstance(line, str):
            report(_wrong(file, split, number, "text", line))
            continue
        heading = _TITLE.fullmatch(line)
        # A heading stands between blank lines; a line of a table or a formula does not.
        if heading and blank and not heading[1].endswith("="):
            if any(line.strip() for line in lines):
                yield _text(file, split, first, "".join(lines), {"title": title} if title else {})
            lines, title, first = [], heading[1], number
        lines.append(line if line.endswith("\n") else line + "\n")
        blank = not line.strip()
    if any(line.strip() for line in lines):
        yield _text(file, split, first, "".join(lines), {"title": title} if title else {})


def _dolly(file: SourceFile, split: str, rows: _Rows, report: OnProblem) -> Iterator[Document]:
    """Dolly-15k: ``instruction`` with ``context`` asks, ``response`` answers; ``category`` is kept."""
    for document in Rows(file, report).documents((number, dict(row)) for number, row in enumerate(rows, start=1)):
        yield _named(document, file, split)


def _oasst(file: SourceFile, split: str, rows: _Rows, report: OnProblem) -> Iterator[Document]:
    """OASST1: of each tree of messages the conversation along the best-ranked replies, up to the assistant's last.

    Replies are ordered by ``rank`` (0 is best, none comes last); deleted messages and what hangs on them are left out.
    """
    roots: list[dict[str, Any]] = []
    replies: dict[str, list[dict[str, Any]]] = {}
    known: set[str] = set()
    keys = ("message_id", "parent_id", "role", "text", "rank", "lang", "message_tree_id")
    for number, row in enumerate(rows, start=1):
        if row.get("deleted"):
            file.notes["deleted messages left out"] += 1
            continue
        message = {key: row.get(key) for key in keys} | {"number": number}
        if bad := next((key for key in ("message_id", "text", "role") if not isinstance(message[key], str)), None):
            report(_wrong(file, split, number, bad, message[bad]))
        elif message["role"] not in ("prompter", "assistant"):
            where = f"{file.path}/{split}:{number}"
            report(BadInput("unknown-role", f"the role is {str(message['role'])[:40]!r}", where=where))
        else:
            known.add(str(message["message_id"]))
            (replies.setdefault(str(message["parent_id"]), []) if message["parent_id"] else roots).append(message)
    if orphans := sum(len(children) for parent, children in replies.items() if parent not in known):
        file.notes["messages whose parent is missing left out"] += orphans
    for root in roots:
        path = _best_path(root, replies)
        if len(path) < 2:
            file.notes["conversations without a reply left out"] += 1
            continue
        roles = {"prompter": "user", "assistant": "assistant"}
        messages = tuple({"role": roles[message["role"]], "content": message["text"]} for message in path)
        facts = {"message_tree_id": root["message_tree_id"], "lang": root["lang"]}
        document = _text(file, split, root["number"], join_messages(messages), facts, "chat")
        yield dataclasses.replace(document, messages=messages)


def _best_path(root: dict[str, Any], replies: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    path, seen = [root], {root["message_id"]}
    while children := [child for child in replies.get(path[-1]["message_id"], ()) if child["message_id"] not in seen]:
        best = min(children, key=lambda child: (child["rank"] is None, child["rank"] or 0, child["number"]))
        path.append(best)
        seen.add(best["message_id"])
    while path and path[-1]["role"] != "assistant":
        path.pop()
    return path


def _string(row: dict[str, Any], key: str, file: SourceFile, split: str, number: int, report: OnProblem) -> str:
    value = row.get(key)
    if isinstance(value, str):
        return value
    report(_wrong(file, split, number, key, value))
    return ""


def _wrong(file: SourceFile, split: str, number: int, key: str, value: Any) -> BadInput:
    what = f"'{key}' must be a string, not {type(value).__name__}"
    return BadInput("wrong-type", what, where=f"{file.path}/{split}:{number}")


PRESETS: dict[str, HubSet] = {
    "fineweb-edu": HubSet("HuggingFaceFW/fineweb-edu", "sample-10BT", _fineweb),
    "wikitext-103": HubSet("Salesforce/wikitext", "wikitext-103-raw-v1", _wikitext),
    "dolly-15k": HubSet("databricks/databricks-dolly-15k", None, _dolly),
    "oasst1": HubSet("OpenAssistant/oasst1", None, _oasst),
}
