"""The table of chunks on disk: a Lance dataset, of which `manifest.json` names one complete version.

What a writer does becomes visible when the manifest names its last version, by one rename; what a killed writer left
behind is undone by the next one. One process writes at a time; readers see the version they opened.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError
from lifelong.files import MANIFEST, atomic_directory, directory_kind, read_json, sha256_file, write_json
from lifelong.locks import writer_lock

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "document store"
_FORMAT = 1
_TABLE = "chunks"
WORDS, VECTOR = "indexed", "vector"
# How long a version stays after it was superseded: for those who are just reading it.
_KEPT = timedelta(minutes=10)


def open_library() -> Any:
    """Return ``lancedb``, its remarks for developers silenced.

    Raises:
        LifelongError: it is not installed.
    """
    os.environ.setdefault("LANCEDB_LOG", "error")
    try:
        import lancedb
    except ModuleNotFoundError:
        raise LifelongError(
            "a document store needs lancedb, which is not installed", fix="pip install 'lifelong[rag]'"
        ) from None
    return lancedb


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn what the library says of a damaged store into an error that says what to do."""
    try:
        yield
    except (LifelongError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise damaged(folder, str(error).strip().split("\n")[0][:300]) from error


def damaged(folder: Path, what: str) -> LifelongError:
    """Return the error of a store that cannot be read."""
    return LifelongError(
        f"the document store is damaged: {what}",
        where=str(folder),
        fix="Its sources are untouched: move it away, and `lifelong index` them again.",
    )


class Table:
    """The chunks of a store.

    Args:
        folder: the store's directory.
        durable: whether it is a store to keep, with a manifest; otherwise a folder for the time being.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder, self.durable = folder, durable
        self.facts: dict[str, Any] = {}
        self._lock = ExitStack()
        self._writing = not durable
        self._changed = False
        self._files: dict[str, Any] = {}
        self._lance: Any = None
        self._seen = 0
        if durable:
            self._open()

    def _open(self) -> None:
        if directory_kind(self.folder) is None:
            return  # a store that is yet to be written
        self._seen = (self.folder / MANIFEST).stat().st_mtime_ns
        found = read_json(self.folder / MANIFEST)
        if found.get("kind") != KIND:
            raise LifelongError(
                f"this is a {found.get('kind')} directory, not a document store", where=str(self.folder)
            )
        if found.get("format") != _FORMAT:
            raise LifelongError(
                f"the store has the format {found.get('format')}, this version reads {_FORMAT}",
                where=str(self.folder),
                fix="Index its sources again into a new store.",
            )
        if lacking := {"version", "facts", "files"} - found.keys():
            raise damaged(self.folder, f"{MANIFEST} lacks {', '.join(sorted(lacking))}")
        self._files = found["files"]
        for name, facts in self._files.items():
            path = self.folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != facts["bytes"]:
                what = "is missing" if size is None else f"has {size} bytes, expected {facts['bytes']}"
                raise damaged(self.folder, f"{name} {what}")
        self.facts = found["facts"]
        if found["version"] is None:
            return
        with reading(self.folder):
            self._lance = self._connect().open_table(_TABLE)
            self._lance.checkout(found["version"])

    def _connect(self) -> Any:
        return open_library().connect(str(self.folder))

    @property
    def lance(self) -> Any:
        """The ``lancedb`` table, or None while there is no chunk."""
        return self._lance

    def __len__(self) -> int:
        with reading(self.folder):
            return 0 if self._lance is None else int(self._lance.count_rows())

    def follow(self) -> bool:
        """Open the version that another process has made the store's state since; returns whether there was one."""
        if self._writing or self._lance is None:
            return False
        with reading(self.folder):
            if (self.folder / MANIFEST).stat().st_mtime_ns == self._seen:
                return False
        self._open()
        return True

    def begin(self) -> None:
        """Become the writer: nobody else writes until `commit` or `close`.

        Raises:
            LifelongError: another process writes here.
        """
        if self._writing:
            return
        self._lock.enter_context(writer_lock(self.folder))
        try:
            self._lance = None
            self._open()  # whoever wrote before may have gone on
            if directory_kind(self.folder) is None:  # whose folder this is must be known if this writer is killed
                write_json(self.folder / MANIFEST, {**_head(None, {}), "files": {}})
            if self._lance is not None:
                with reading(self.folder):
                    self._lance.restore()  # what a killed writer left is undone
        except BaseException:
            self._lock.close()
            raise
        self._writing = True

    def append(self, rows: pa.Table) -> None:
        """Add chunks."""
        self.begin()
        with reading(self.folder):
            if self._lance is None:
                self._lance = self._connect().create_table(_TABLE, rows, mode="overwrite")
            else:
                self._lance.add(rows)
        self._changed = True

    def clear(self) -> None:
        """Forget all chunks and their columns: the next to be added say anew what those are."""
        self.begin()
        self._lance = None

    def delete(self, where: str) -> int:
        """Remove the chunks for which a condition holds; returns how many."""
        self.begin()
        if self._lance is None:
            return 0
        before = len(self)
        with reading(self.folder):
            self._lance.delete(where)
        self._changed = True
        return before - len(self)

    def refresh(self) -> None:
        """Bring the word index up to what was added."""
        if not self._changed or self._lance is None:
            return
        with reading(self.folder):
            if any(WORDS in index.columns for index in self._lance.list_indices()):
                self._lance.optimize()
            elif self._lance.count_rows():
                from lancedb.index import FTS

                self._lance.create_index(WORDS, config=FTS(with_position=False))
        self._changed = False

    def commit(self, facts: Mapping[str, Any]) -> None:
        """Make all that was done since `begin` the state of the store, at once and durably."""
        self.begin()
        self.refresh()
        self.facts = dict(facts)
        # Between the two writes files vanish: until then none are listed, so that a kill leaves a store that opens.
        write_json(self.folder / MANIFEST, {**_head(self._lance, self.facts), "files": {}})
        self._drop_older_versions()
        self._files = _list_files(self.folder, self._files)
        write_json(self.folder / MANIFEST, {**_head(self._lance, self.facts), "files": self._files})
        self.close()

    def copy_to(self, target: Path, facts: Mapping[str, Any]) -> None:
        """Make a store of the present state in another folder, at once; an existing store there is replaced."""
        self.refresh()
        if not self.durable:
            self._drop_older_versions()
        with atomic_directory(target, **_head(self._lance, facts)) as staged:
            if self._lance is not None:
                name = f"{_TABLE}.lance"
                shutil.copytree(self.folder / name, staged / name)

    def _drop_older_versions(self) -> None:
        if self._lance is not None:
            with reading(self.folder):
                self._lance.optimize(cleanup_older_than=_KEPT)

    def close(self) -> None:
        """Let others write; what was not committed is undone by them."""
        self._lock.close()
        self._writing = not self.durable


def _head(lance: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says beside its files."""
    return {"kind": KIND, "format": _FORMAT, "version": None if lance is None else lance.version, "facts": dict(facts)}


def _list_files(folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return size and SHA-256 of a store's files; files of Lance never change, so known ones are not read again."""
    found = {}
    for path in sorted((folder / f"{_TABLE}.lance").rglob("*")):
        if path.is_file():
            name, size = path.relative_to(folder).as_posix(), path.stat().st_size
            before = known.get(name, {})
            same = before.get("bytes") == size and path.suffix != ".json"
            found[name] = {"bytes": size, "sha256": before["sha256"] if same else sha256_file(path)}
    return found


def condition(filters: Mapping[str, str | Sequence[str]], columns: Sequence[str]) -> str | None:
    """Return filters as the condition of a query: a column's value, one of several, or a beginning (``docs/*``).

    Raises:
        LifelongError: there is no such column.
    """
    parts = []
    for column, wanted in filters.items():
        if column not in columns:
            raise LifelongError(f"there is no filter '{column}'", fix=f"There are: {', '.join(columns)}.")
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        tests = [_test(column, value) for value in values]
        parts.append("(" + (" OR ".join(tests) or "false") + ")")
    return " AND ".join(parts) or None


def _test(column: str, value: str) -> str:
    if value.endswith("*"):
        return f"starts_with({column}, {quoted(value[:-1])})"
    return f"{column} = {quoted(value)}"


def quoted(value: str) -> str:
    """Return a text as a literal of a condition."""
    return "'" + value.replace("'", "''") + "'"
