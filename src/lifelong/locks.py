"""One process at a time writes in a directory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.files import disk_error


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_locked(directory: Path) -> bool:
    """Whether a process that is alive, as far as can be told, writes in ``directory``."""
    try:
        held = json.loads((directory / ".lock").read_text(encoding="utf-8"))
        return bool(held["host"] != socket.gethostname() or _alive(int(held["pid"])))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return True


@contextlib.contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Let one process at a time write in ``directory``; a lock whose process has died is taken over.

    Raises:
        LifelongError: another live process holds it; names its pid and host.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, directory) from error
    lock = directory / ".lock"
    mine = {"pid": os.getpid(), "host": socket.gethostname()}
    for _ in range(2):
        try:
            fd = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            try:
                held = json.loads(lock.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                held = {}
            held = held if isinstance(held, dict) else {}
            if held == mine:  # the same process, further up: one owner, so nothing to wait for
                yield
                return
            if not {"pid", "host"} <= held.keys():
                raise LifelongError(
                    "a lock lies here that does not say whose it is",
                    where=str(lock),
                    fix="Remove it, if no other process is writing here.",
                ) from None
            if held["host"] != mine["host"] or _alive(int(held["pid"])):
                raise LifelongError(
                    f"another process is writing here (pid {held['pid']} on {held['host']})",
                    where=str(directory),
                    fix=f"Wait for it, or remove {lock} if that process is gone.",
                ) from None
            lock.unlink(missing_ok=True)
            continue
        except OSError as error:  # a directory that is read-only
            raise disk_error(error, directory) from error
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as handle:
                json.dump(mine, handle)
        except OSError as error:  # a full disk: a lock that names nobody would stay for ever
            lock.unlink(missing_ok=True)
            raise disk_error(error, directory) from error
        break
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
