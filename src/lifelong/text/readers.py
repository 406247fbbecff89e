"""From files to documents: each kind of file is read strictly, and every refusal names the file and the line."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError
from lifelong.files import directory_kind
from lifelong.text.document import ROLES, BadInput, DataSource, Document, join_messages

SUFFIXES = {
    **dict.fromkeys((".txt", ".rst", ".text"), "text"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".js"), "code"),
    **dict.fromkeys((".ts", ".rb", ".sh", ".sql", ".jl", ".lua", ".swift", ".kt"), "code"),
    **dict.fromkeys((".jsonl", ".json"), "rows"),
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source: where it lies, how it is called below the source's root, and how it is read."""

    path: Path
    name: str
    kind: str
    weight: float


@dataclass(slots=True)
class Listing:
    """The files of one source, and what was passed over: counts by suffix (or by reason), with a few examples."""

    source: DataSource
    files: list[SourceFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, path: Path) -> None:
        """Count a file or folder that is not read."""
        self.skipped[reason] += 1
        if len(shown := self.examples.setdefault(reason, [])) < 3:
            shown.append(str(path))


def list_files(source: DataSource) -> Listing:
    """Find the files of a source, sorted by path.

    Folders are walked recursively; hidden entries, unknown suffixes, empty files and directories that lifelong itself
    wrote are passed over and counted.

    Raises:
        LifelongError: nothing is there, the named file is empty, or the folder or pattern holds nothing readable.
    """
    listing = Listing(source)
    path = Path(source.path).expanduser()
    if path.is_file():
        if path.stat().st_size == 0:
            raise LifelongError("the file is empty", where=str(path), fix="Give a file that holds text.")
        kind = source.kind or SUFFIXES.get(path.suffix.lower(), "text")  # named outright, so it is meant to be read
        listing.files.append(SourceFile(path, path.name, kind, source.weight))
        return listing
    found: Iterable[tuple[Path, str]]
    if path.is_dir():
        found = ((file, file.relative_to(path).as_posix()) for file in _walk(path, listing))
    elif glob.has_magic(str(path)):
        found = _glob(str(path))
    else:
        raise LifelongError("no such file or folder", where=str(path), fix="Check the path.")
    for file, name in found:
        _consider(listing, file, name)
    if not listing.files:
        skipped = ", ".join(f"{count} x {reason}" for reason, count in listing.skipped.most_common(5))
        raise LifelongError(
            "no readable text here" + (f" (passed over: {skipped})" if skipped else ""),
            where=str(path),
            fix=f"Readable suffixes: {' '.join(SUFFIXES)}. A file named by itself is read whatever its suffix.",
        )
    return listing


def _walk(folder: Path, listing: Listing) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            listing.skip("hidden", entry)
        elif entry.is_dir():
            if entry.is_symlink():  # a link to a parent folder would be walked without end
                listing.skip("linked folder", entry)
            elif kind := directory_kind(entry):  # an output written inside its own source must not be read back
                listing.skip(f"{kind} directory", entry)
            else:
                yield from _walk(entry, listing)
        else:
            yield entry


def _glob(pattern: str) -> list[tuple[Path, str]]:
    # The part before the first wildcard is the root, so that keys do not depend on where the user stands.
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:first])
    named = ((file, file.relative_to(root)) for file in sorted(root.glob(str(Path(*parts[first:])))) if file.is_file())
    return [(file, name.as_posix()) for file, name in named if not any(part.startswith(".") for part in name.parts)]


def _consider(listing: Listing, file: Path, name: str) -> None:
    suffix = file.suffix.lower()
    kind = SUFFIXES.get(suffix)
    if kind is None:
        listing.skip(suffix or "no suffix", file)
    elif not file.is_file():
        listing.skip("not a regular file", file)
    elif file.stat().st_size == 0:
        listing.skip("empty file", file)
    elif listing.source.kind in ("chat", "documents") and kind != "rows":
        listing.skip(f"{suffix} (not rows)", file)
    else:
        listing.files.append(SourceFile(file, name, listing.source.kind or kind, listing.source.weight))


def read_sources(sources: Sequence[DataSource | str | Path]) -> Iterator[Document]:
    """Yield the documents of files, globs and folders, one after another; only one file's text is in memory.

    Raises:
        LifelongError: a file is missing, empty, binary, not UTF-8 or not valid rows; names the file and the line.
    """
    for source in sources:
        for file in list_files(DataSource.parse(source)).files:
            yield from read_file(file)


def read_file(file: SourceFile, on_problem: Callable[[BadInput], None] | None = None) -> Iterator[Document]:
    """Yield the documents of one file: one for text, Markdown and code, one a row for chats and documents."""
    if file.kind in ("text", "markdown", "code"):
        text = _decode(file.path.read_bytes(), file.path, first_line=1).removeprefix("\ufeff")
        yield Document(text, str(file.path), file.name, file.kind, weight=file.weight)
        return
    rows = _json_rows(file.path) if file.path.suffix.lower() == ".json" else _jsonl_rows(file.path)
    for line, row in rows:
        yield _row_document(file, line, row)


def _decode(data: bytes, path: Path, *, first_line: int) -> str:
    if b"\0" in data:
        raise LifelongError(
            "the file is binary (it holds a NUL byte), not text",
            where=str(path),
            fix="Leave it out, or convert it to UTF-8 text.",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise LifelongError(
            f"the text is not UTF-8 (byte 0x{data[error.start]:02x})",
            where=f"{path}:{line}",
            fix=f"Convert it first, for example: iconv -f latin1 -t utf-8 {path.name} > {path.stem}.utf8{path.suffix}",
        ) from None


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as handle:
        for number, data in enumerate(handle, start=1):
            text = _decode(data, path, first_line=number).removeprefix("\ufeff").strip()
            if text:
                yield number, _parse(text, path, number)


def _json_rows(path: Path) -> Iterator[tuple[int | None, Any]]:
    text = _decode(path.read_bytes(), path, first_line=1).removeprefix("\ufeff")
    value = _parse(text, path, 1)
    if isinstance(value, dict):
        yield None, value
        return
    if not isinstance(value, list):
        raise LifelongError("a JSON file must hold an object or a list of objects", where=str(path))
    yield from enumerate(value, start=1)


def _parse(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{line + error.lineno - 1}"
        raise LifelongError(f"not valid JSON: {error.msg} (column {error.colno})", where=where) from None
    except RecursionError:
        raise LifelongError("not usable JSON: nested too deeply", where=f"{path}:{line}") from None


def _row_document(file: SourceFile, line: int | None, row: Any) -> Document:
    where = f"{file.path}:{line}" if line else str(file.path)
    if not isinstance(row, dict):
        raise LifelongError("a row must be a JSON object", where=where)
    kind = file.kind if file.kind != "rows" else ("chat" if "messages" in row else "documents")
    wanted = "messages" if kind == "chat" else "text"
    if wanted not in row:
        raise LifelongError(
            f"the row has no '{wanted}' (its keys: {', '.join(map(str, row)) or 'none'})",
            where=where,
            fix='A chat row is {"messages": [{"role": "user", "content": "..."}, ...]}, a text row {"text": "..."}.',
        )
    messages = _messages(row["messages"], where) if kind == "chat" else None
    text = row["text"] if messages is None else join_messages(messages)
    if not isinstance(text, str):
        raise LifelongError(f"'text' must be a string, not {type(text).__name__}", where=where)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell half a character ("\ud800"), which no UTF-8 file can hold
        raise LifelongError("the text holds half of a surrogate pair, which is not Unicode text", where=where) from None
    document_kind = "chat" if messages else "text"
    return Document(text, str(file.path), file.name, document_kind, "", file.weight, messages, line)


def _messages(value: Any, where: str) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise LifelongError("'messages' must be a list of at least one message", where=where)
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise LifelongError(f"message {number} needs a string 'content'", where=where)
        if message.get("role") not in ROLES:
            raise LifelongError(
                f"message {number} has the role {message.get('role')!r}", where=where, fix=f"Roles: {', '.join(ROLES)}."
            )
    return tuple({"role": message["role"], "content": message["content"]} for message in value)
