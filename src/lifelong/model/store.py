"""A model directory's memory of itself: every state it ever had, and one atomic switch between them.

A *generation* is a list of files and their SHA-256; the contents lie once each under ``lifelong/objects``. ``HEAD``
names the generation in force. Committing writes objects, then the generation, then replaces ``HEAD``: a reader sees the
old state or the new one, never a mixture. The files at the root mirror ``HEAD`` (hard links where the file system has
them), each replaced by rename; an interrupted mirror is finished by the next open.

A generation that purges takes the files of all before it away for good: of those only their numbers and parents stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifelong import progress
from lifelong.errors import LifelongError
from lifelong.files import (
    disk_error,
    fsync_directory,
    link_file,
    read_json,
    remove_file,
    sha256_file,
    sweep_temporaries,
    write_json,
    write_text,
)
from lifelong.locks import writer_lock
from lifelong.model.stored import check_contents, check_memory, damage, lost, read_event

HOME = "lifelong"
STATE, HISTORY = f"{HOME}/state.json", f"{HOME}/history.jsonl"
FOLDER = "folder"  # of an event: the working directory in which its relative sources were named
_PURGES, _PURGED = "purges", "purged"  # in a generation's record: it takes those before it away; it was taken away


class ModelStore:
    """The generations of one model directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / HOME

    @classmethod
    def open(cls, root: Path) -> ModelStore:
        """Open a directory for reading, finishing a mirror that was interrupted.

        Of what lies below ``lifelong/``, files that are gone are laid there again, and named: without them it would
        seem that the model knows less than it does. A directory without ``lifelong/`` (a stock Hugging Face one) is
        fine: it has no generations yet.

        Raises:
            LifelongError: another process is writing, or the disk refused.
        """
        store = cls(root)
        if store.exists() and (store._mirrored() != store.head() or store._lost()):
            with writer_lock(store.home):
                lost = store._lost() if store._mirrored() == store.head() else []
                store._mirror()
            if lost:
                progress.note(f"note: gone from {root}, and laid there again: {', '.join(lost)}")
        return store

    def exists(self) -> bool:
        """Whether this directory has generations."""
        return (self.home / "HEAD").is_file()

    def head(self) -> int:
        """Return the number of the generation in force, 0 where there is none."""
        if not self.exists():
            return 0
        text = (self.home / "HEAD").read_text(encoding="utf-8").strip()
        if not text.isdigit():
            raise LifelongError("HEAD does not hold a number", where=str(self.home / "HEAD"))
        return int(text)

    def files(self, generation: int | None = None) -> dict[str, dict[str, Any]]:
        """Return the files of a generation (default: the one in force): path → ``{"sha256", "bytes"}``.

        Raises:
            LifelongError: they were purged.
        """
        number = self.head() if generation is None else generation
        if number == 0:
            return {}
        record = read_json(self._record(number))
        if _PURGED in record:
            raise LifelongError(
                f"state {number} was purged when a source was forgotten: it cannot be brought back",
                where=str(self.root),
                fix="See `lifelong history`.",
            )
        files: dict[str, dict[str, Any]] = record["files"]
        return files

    def content(self, generation: int, name: str) -> Path | None:
        """Return where the content of a generation's file is stored; None where it has none, or that is gone."""
        facts = self.files(generation).get(name)
        path = self._object(facts["sha256"]) if facts else None
        return path if path is not None and path.is_file() else None

    def parent(self, generation: int) -> int:
        """Return the generation that one was made from, 0 for none."""
        return int(read_json(self._record(generation))["parent"])

    def state(self) -> dict[str, Any]:
        """Return ``lifelong/state.json`` of the generation in force; an empty dictionary where there is none."""
        path = self.root / STATE
        return dict(read_json(path)) if path.is_file() else {}

    def adapters(self) -> list[str]:
        """Return the names of the adapters in force, in the order in which they were learned."""
        return [item["name"] for item in self.state().get("adapters", [])]

    def history(self) -> list[dict[str, Any]]:
        """Return the history, oldest first."""
        path = self.root / HISTORY
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [read_event(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line]

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty directory, laid out like the root, for the files of the next generation."""
        place = self.home / f".staging-{uuid.uuid4().hex[:8]}"
        try:
            place.mkdir(parents=True)
            yield place
        except OSError as error:
            raise disk_error(error, self.root) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def commit(
        self,
        staged: Path | None,
        event: dict[str, Any],
        *,
        base: int | None = None,
        remove: Iterable[str] = (),
        purge: bool = False,
    ) -> int:
        """Make the next generation: the files of ``base`` (default: ``HEAD``), less ``remove``, plus the staged ones.

        Args:
            staged: a directory made by `staging`, or None when no file changes.
            event: the line to add to the history.
            base: the generation to start from; rolling back is committing on an older one.
            remove: paths to leave out; a path ending in ``/`` leaves out all below it.
            purge: once it is in force, the next `sweep` takes all earlier generations away for good.

        Returns:
            the new generation's number.

        Raises:
            LifelongError: another process is writing, the disk refused, or ``base`` was purged; the old generation
                stays in force.
        """
        try:
            with writer_lock(self.home):
                return self._commit(staged, event, base, tuple(remove), purge=purge)
        except OSError as error:
            raise disk_error(error, self.root) from error

    def _commit(
        self,
        staged: Path | None,
        event: dict[str, Any],
        base: int | None,
        remove: tuple[str, ...],
        *,
        purge: bool = False,
    ) -> int:
        number = max((int(p.stem) for p in (self.home / "generations").glob("*.json")), default=0) + 1
        files = self.files(base)
        if not self.exists() and staged is not None:
            files = self._adopt()
        files = {name: facts for name, facts in files.items() if not _matches(name, remove)}
        if staged is not None:
            for path in sorted(p for p in staged.rglob("*") if p.is_file()):
                files[path.relative_to(staged).as_posix()] = self._store(path)
        if base is not None:
            check_contents(self.root, base, files, self.files(), self._object)
        event = {"generation": number, "time": datetime.now(UTC).isoformat(timespec="seconds"), **event}
        lines = (self.root / HISTORY).read_text(encoding="utf-8") if (self.root / HISTORY).is_file() else ""
        history = self.home / ".history.tmp"
        write_text(history, lines + json.dumps(event, ensure_ascii=False) + "\n")
        files[HISTORY] = self._store(history)
        record = {"generation": number, "parent": base or self.head(), "files": files}
        write_json(self._record(number), {**record, _PURGES: True} if purge else record)
        write_text(self.home / "HEAD", f"{number}\n")
        self._mirror()
        return number

    def adopt(self) -> bool:
        """Make a stock directory's own files its first generation, so that nothing of it is lost; whether it did."""
        if self.exists() or not any(path.is_file() for path in self.root.iterdir()):
            return False
        with writer_lock(self.home), self.staging() as nothing:
            self._commit(nothing, {"event": "adopted"}, None, ())
        return True

    def sweep(self) -> int:
        """Remove what a killed process had begun to write, and what the generation in force purges.

        Only for who holds the directory's lock.

        Returns:
            the bytes of stored contents that this freed.
        """
        for path in self.home.glob(".staging-*"):
            shutil.rmtree(path, ignore_errors=True)
        for folder in (self.home, self.home / "generations"):
            sweep_temporaries(folder)
        self._empty_purged()
        records = [read_json(path) for path in (self.home / "generations").glob("*.json")]
        known = {facts["sha256"] for record in records for facts in record["files"].values()}
        loose = [path for path in (self.home / "objects").glob("*/*") if path.name not in known]
        return sum(remove_file(path) for path in loose)

    def _empty_purged(self) -> None:
        """Empty the records of all generations before the last one in force's line that purges.

        Their numbers and parents stay: they say which sessions are part of the state in force. A generation that was
        never switched to is not in that line, and purges nothing.
        """
        number = self.head()
        while number and not read_json(self._record(number)).get(_PURGES):
            number = self.parent(number)
        for path in (self.home / "generations").glob("*.json"):
            if int(path.stem) < number and _PURGED not in (record := read_json(path)):
                write_json(path, {**record, "files": {}, _PURGED: True})

    def _adopt(self) -> dict[str, dict[str, Any]]:
        """Take a stock directory's own files into the first generation."""
        found = (p for p in sorted(self.root.iterdir()) if p.is_file() and not p.name.startswith("."))
        return {path.name: self._store(path, keep=True) for path in found}

    def _record(self, number: int) -> Path:
        return self.home / "generations" / f"{number:04d}.json"

    def _object(self, digest: str) -> Path:
        return self.home / "objects" / digest[:2] / digest

    def _store(self, path: Path, *, keep: bool = False) -> dict[str, Any]:
        digest, size = sha256_file(path), path.stat().st_size
        target = self._object(digest)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            if keep:
                link_file(path, target)
            else:
                with path.open("rb") as handle:
                    os.fsync(handle.fileno())
                path.replace(target)
            fsync_directory(target.parent)
        return {"sha256": digest, "bytes": size}

    def _mirrored(self) -> int:
        try:
            return int((self.home / "MIRROR").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def check(self) -> None:
        """Raise LifelongError where what a lesson would take for the model's memory is not what was recorded."""
        check_memory(self.root, self.files())

    def _lost(self) -> list[str]:
        return lost(self.root, self.files(), self._object)

    def _mirror(self) -> None:
        """Lay the files of ``HEAD`` at the root, and take away those that only an earlier generation had.

        Raises:
            LifelongError: the disk refused.
        """
        try:
            self._lay()
        except OSError as error:
            raise LifelongError(
                f"the model is at state {self.head()}, but not all of its files could be laid at the root: "
                f"{error.strerror or error}",
                where=str(self.root),
                fix="Free some space or check the permissions: the next command goes on with that.",
            ) from error

    def _lay(self) -> None:
        before = self._mirrored()
        old = self.files(before) if before and self._record(before).is_file() else {}
        new = self.files()
        for name, facts in new.items():
            target = self.root / name
            if old.get(name) == facts and target.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.tmp")
            temporary.unlink(missing_ok=True)
            link_file(self._object(facts["sha256"]), temporary)
            temporary.replace(target)
            temporary.unlink(missing_ok=True)  # renaming one link of a file over another does nothing (POSIX)
        for name in old.keys() - new.keys():
            target = self.root / name
            target.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: something else lives there
                target.parent.rmdir()
        write_text(self.home / "MIRROR", f"{self.head()}\n")

    def damage(self) -> list[str]:
        """Return what is wrong with the generation in force: altered or missing contents, or other root files."""
        return damage(self.root, self.files(), self._object)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == pattern or (pattern.endswith("/") and name.startswith(pattern)) for pattern in patterns)
