"""Which files a source stands for, how each of them is read, and what was passed over."""

from __future__ import annotations

import dataclasses
import glob
import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.files import directory_kind
from lifelong.text.document import ROW_CONTAINERS, BadInput, DataSource
from lifelong.text.readers.opening import unreadable
from lifelong.text.readers.roam import Blocks

SUFFIXES = {
    **dict.fromkeys((".txt", ".rst", ".text", ".pod", ".adoc", ".asciidoc", ".tex", ".org"), "text"),
    **dict.fromkeys((".md", ".markdown", ".mdx", ".rmd", ".qmd"), "markdown"),
    **dict.fromkeys((".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".js"), "code"),
    **dict.fromkeys((".ts", ".rb", ".sh", ".sql", ".jl", ".lua", ".swift", ".kt"), "code"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".ipynb": "ipynb",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
}
COMPRESSED = (".gz", ".zst")
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz")
# What a folder's files of this kind need beyond the core; without it they are passed over and counted.
_NEEDS = {"parquet": "pyarrow", "html": "trafilatura", "pdf": "pypdf", ".zst": "zstandard"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source (or one data set of the hub): where it lies, and how it is read.

    Attributes:
        path: the file; of a data set of the hub, its spelling.
        name: the path below the source's root.
        container: how it holds its text: a suffix's entry in `SUFFIXES`, ``roam``, ``primer`` or ``hub``.
        row_format: what its rows mean, where that was said; otherwise each row's keys decide.
        weight: of the source.
        source: what was asked for.
        found: whether it was found in a folder or by a pattern, not named by itself: then rows of no known format
            are passed over, and counted.
        number: its place in the listing, from 0.
        notes: what the reader left out or could not resolve, counted while reading.
        blocks: the blocks of a Roam tree, shared by its files.
        spent: bytes of text read from the source so far, shared by its files.
    """

    path: Path
    name: str
    container: str
    row_format: str | None
    weight: float
    source: DataSource
    found: bool = False
    number: int = 0
    notes: Counter[str] = field(default_factory=Counter, compare=False)
    blocks: Blocks | None = field(default=None, repr=False, compare=False)
    spent: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @property
    def kind(self) -> str:
        """What its rows mean, where that was said; otherwise how it holds its text."""
        return self.row_format or self.container

    @property
    def may_name_split(self) -> bool:
        """Whether ``test.jsonl`` means the test split; a page, a module or a data set called "test" is about tests."""
        return self.container in ("text", "primer", *ROW_CONTAINERS)


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

    Folders are walked recursively; hidden entries, unknown suffixes, archives, empty files, links that lead out of the
    folder and directories that lifelong itself wrote are passed over and counted.

    Raises:
        LifelongError: nothing is there, the named file is empty or an archive, or the folder or pattern holds nothing
            readable.
    """
    try:
        return _list(source)
    except OSError as error:
        raise unreadable(error, str(source.path)) from error


def _list(source: DataSource) -> Listing:
    listing = Listing(source)
    if source.is_hub:
        _add(listing, Path(source.path), str(source.path), "hub")
        return listing
    path = Path(source.path).expanduser()
    if path.is_file():
        _named(listing, path)
        return listing
    found: Iterable[tuple[Path, str]]
    if path.is_dir():
        root = path
        found = ((file, file.relative_to(path).as_posix()) for file in _walk(path, listing))
    elif glob.has_magic(str(path)):
        root, found = _glob(path)
    elif path.exists():
        raise LifelongError("not a regular file", where=str(path), fix="Write its text to a file first.")
    else:
        raise LifelongError("no such file or folder", where=str(path), fix="Check the path.")
    real_root = root.resolve()
    for file, name in found:
        _consider(listing, file, name, real_root)
    if not listing.files:
        skipped = ", ".join(f"{count} x {reason}" for reason, count in listing.skipped.most_common(5))
        raise LifelongError(
            "no readable text here" + (f" (passed over: {skipped})" if skipped else ""),
            where=str(path),
            fix=f"Readable suffixes: {' '.join(SUFFIXES)}. A file named by itself is read whatever its suffix.",
        )
    if source.kind == "roam":
        blocks = Blocks([file.path for file in listing.files])
        listing.files = [_with_blocks(file, blocks) for file in listing.files]
    return listing


def suffix_of(path: Path) -> tuple[str, str]:
    """Return a name's suffix without compression, and the compression: ``("a.md.gz")`` gives ``.md`` and ``.gz``."""
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        return Path(path.stem).suffix.lower(), suffix
    return suffix, ""


def _named(listing: Listing, path: Path) -> None:
    """Take a file that was named outright: it is meant to be read, whatever its suffix."""
    where = str(path)
    if path.stat().st_size == 0:
        raise BadInput("empty-file", "the file is empty", where=where, fix="Give a file that holds text.", fatal=True)
    suffix, _ = suffix_of(path)
    if (archive := _archive(path)) and listing.source.kind is None:
        raise BadInput(
            "archive",
            f"an archive ({archive}) is not read",
            where=where,
            fix="Unpack it into a folder of its own, and give that folder.",
            fatal=True,
        )
    _add(listing, path, path.name, SUFFIXES.get(suffix, "text"))
    if listing.source.kind == "roam":
        listing.files = [_with_blocks(file, Blocks([path])) for file in listing.files]


def _add(listing: Listing, path: Path, name: str, by_suffix: str, *, found: bool = False) -> None:
    source = listing.source
    rows = source.row_format is not None
    # A row format says nothing about the file: its suffix does, and what has another suffix is taken for JSON lines.
    container = source.container or (by_suffix if not rows or by_suffix in (*ROW_CONTAINERS, "hub") else "jsonl")
    container = "hub" if by_suffix == "hub" else container
    spent = listing.files[0].spent if listing.files else [0]
    number, rows_are = len(listing.files), source.row_format
    file = SourceFile(path, name, container, rows_are, source.weight, source, found, number, spent=spent)
    listing.files.append(file)


def _with_blocks(file: SourceFile, blocks: Blocks) -> SourceFile:
    return dataclasses.replace(file, blocks=blocks)


def _archive(path: Path) -> str:
    inner, compression = suffix_of(path)
    return f"{inner}{compression}" if inner in ARCHIVES else ""


def _walk(folder: Path, listing: Listing) -> Iterator[Path]:
    # A stack, not recursion: a tree can be deeper than Python's calls may be.
    stack = _entries(folder, listing)
    while stack:
        entry = stack.pop()
        if entry.name.startswith("."):
            listing.skip("hidden", entry)
        elif not entry.is_dir():
            yield entry
        elif entry.is_symlink():  # a link to a parent folder would be walked without end
            listing.skip("linked folder", entry)
        elif kind := directory_kind(entry):  # an output written inside its own source must not be read back
            listing.skip(f"{kind} directory", entry)
        else:
            stack += _entries(entry, listing)


def _entries(folder: Path, listing: Listing) -> list[Path]:
    try:
        return sorted(folder.iterdir(), reverse=True)
    except OSError:
        listing.skip("folder that may not be read", folder)
        return []


def _glob(path: Path) -> tuple[Path, list[tuple[Path, str]]]:
    # The part before the first wildcard is the root, so that keys do not depend on where the user stands.
    parts = path.parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root, pattern = Path(*parts[:first]), str(Path(*parts[first:]))
    try:
        files = sorted(file for file in root.glob(pattern) if file.is_file())
    except ValueError as error:
        raise LifelongError(f"not a usable pattern: {error}", where=str(path)) from None
    named = ((file, file.relative_to(root)) for file in files)
    return root, [(file, name.as_posix()) for file, name in named if not any(p.startswith(".") for p in name.parts)]


def _consider(listing: Listing, file: Path, name: str, root: Path) -> None:
    if reason := _reason_to_skip(listing.source, file, root):
        listing.skip(reason, file)
    else:
        suffix, _ = suffix_of(file)
        _add(listing, file, name, SUFFIXES[suffix], found=True)


def _reason_to_skip(source: DataSource, file: Path, root: Path) -> str | None:
    suffix, compression = suffix_of(file)
    kind = SUFFIXES.get(suffix)
    if archive := _archive(file):
        return f"archive ({archive}): unpack it first"
    if kind is None:
        return suffix + compression or "no suffix"
    if not file.is_file():
        return "not a regular file"
    if file.is_symlink() and not file.resolve().is_relative_to(root):
        return "link out of the folder"
    if file.stat().st_size == 0:
        return "empty file"
    if source.row_format is not None and kind not in ROW_CONTAINERS:
        return f"{suffix} (not rows)"
    if source.kind in ("roam", "primer") and kind not in ("markdown", "text"):
        return f"{suffix} (not text)"
    if source.kind in ("text", "markdown", "code") and kind in ("pdf", "parquet"):
        return f"{suffix} (not text)"
    if source.kind in ("html", "pdf", "ipynb", *ROW_CONTAINERS) and kind != source.kind:
        return f"{suffix} (not {source.kind})"
    for part in (kind, compression):
        if part in _NEEDS and importlib.util.find_spec(_NEEDS[part]) is None:
            return f"{suffix}{compression} (needs pip install 'lifelong[data]')"
    return None
