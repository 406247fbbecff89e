"""Files that are either whole or not there: atomic writes, manifests, ownership, locks.

A directory that holds several files of one state is written beside its place under a temporary name, gets a
``manifest.json`` with the SHA-256 of every file last, and is renamed into place. A reader that finds the manifest
and matching hashes has the whole state; anything else is an interrupted write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def fsync_directory(path: Path) -> None:
    """Make a rename inside ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed process had begun to write in ``folder``. Only for who holds the folder alone."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_file(path: Path) -> int:
    """Remove a file; returns the bytes that this frees: none where it has another name (a hard link)."""
    facts = path.lstat()
    path.unlink()
    return facts.st_size if facts.st_nlink == 1 else 0


def remove_tree(path: Path) -> int:
    """Remove a directory and all below it, if it is there; returns the bytes that this frees (see `remove_file`)."""
    freed = sum(remove_file(file) for file in list(path.rglob("*")) if file.is_file() or file.is_symlink())
    if path.is_dir():
        shutil.rmtree(path)
    return freed


def disk_error(error: OSError, path: Path) -> LifelongError:
    """Turn a failed write into a message that says what is safe and what to do."""
    return LifelongError(
        f"could not write: {error.strerror or error}",
        where=str(path),
        fix="Nothing was changed. Free some space or check the permissions, then run the same command again.",
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content atomically and durably."""
    temporary = _temporary_sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically; keys keep their order, so equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        LifelongError: the file is missing or is not JSON; names file, line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LifelongError("file not found", where=str(path)) from None
    except json.JSONDecodeError as error:
        raise LifelongError(f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}") from None


def write_manifest(directory: Path, kind: str, **facts: Any) -> None:
    """Write ``manifest.json``: the kind of directory, and the size and SHA-256 of every file below it."""
    files = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p != directory / MANIFEST):
        _fsync_file(path)
        files[path.relative_to(directory).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(directory / MANIFEST, {"kind": kind, **facts, "files": files})


def check_manifest(directory: Path) -> str | None:
    """Return what is wrong with a directory that should carry a manifest, or None when it is whole."""
    if not (directory / MANIFEST).is_file():
        return f"{MANIFEST} is missing: the directory was not completely written"
    try:
        manifest = read_json(directory / MANIFEST)
        files = manifest["files"]
    except (LifelongError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    for name, facts in files.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != facts["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, expected {facts['bytes']}"
        if sha256_file(path) != facts["sha256"]:
            return f"{name} does not match its recorded SHA-256"
    return None


@contextlib.contextmanager
def atomic_directory(path: Path, kind: str, **facts: Any) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``path`` when the block ends without an error.

    The manifest is written last; an existing ``path`` is replaced. On any error, and on Ctrl-C, nothing is left.

    Raises:
        LifelongError: the disk refused the write; the old ``path`` is untouched.
    """
    temporary = _temporary_sibling(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        write_manifest(temporary, kind, **facts)
        _move_into_place(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_directory(source: Path, path: Path) -> None:
    """Make ``path`` the same directory as ``source``, of hard links (copies where the file system has none).

    It takes no space, outlives ``source``, and is whole or not there; an existing ``path`` is replaced.

    Raises:
        LifelongError: the disk refused the write; the old ``path`` is untouched.
    """
    temporary = _temporary_sibling(path)
    try:
        shutil.copytree(source, temporary, copy_function=link_file)
        _move_into_place(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_file(source: str | Path, target: str | Path) -> None:
    """Hard-link a file, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _move_into_place(temporary: Path, path: Path) -> None:
    if path.exists():
        old = _temporary_sibling(path)
        path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old)
    else:
        temporary.rename(path)
    fsync_directory(path.parent)


def directory_kind(path: Path) -> str | None:
    """Return the kind written in a directory's manifest, or None where there is none."""
    try:
        kind = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(kind)


def claim_output(path: Path, kind: str) -> None:
    """Check that ``path`` may be written: it is new, empty, or a directory of the same kind made by lifelong.

    Raises:
        LifelongError: it is a file, or holds something that lifelong did not make.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise LifelongError("the output is a file, a directory is needed", where=str(path), fix="Choose another --out.")
    if not any(path.iterdir()) or directory_kind(path) == kind:
        return
    found = directory_kind(path)
    held = f"holds a {found} directory" if found else "holds files that lifelong did not make"
    raise LifelongError(
        f"the output directory exists and {held}; it is never overwritten",
        where=str(path),
        fix="Choose another --out, or move the directory away first.",
    )
