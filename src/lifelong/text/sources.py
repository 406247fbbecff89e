"""Sources written down: a YAML list of them, and what stands for one on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lifelong.errors import LifelongError, suggest
from lifelong.text.document import HUB_PREFIX, DataSource

_KEYS = tuple(field.name for field in dataclasses.fields(DataSource))
_LARGEST = 1 << 20  # bytes: no list of sources is longer


def expand_sources(sources: Iterable[DataSource | str | Path]) -> list[DataSource]:
    """Return the sources that are meant, a YAML file with a list of sources replaced by what it lists.

    Raises:
        LifelongError: see `DataSource.parse` and `load_sources`.
    """
    expanded: list[DataSource] = []
    for source in sources:
        if not isinstance(source, DataSource) and _is_list(source):
            expanded += load_sources(source)
        else:
            expanded.append(DataSource.parse(source))
    return expanded


def load_sources(path: str | Path) -> list[DataSource]:
    """Read a YAML list of sources: strings as on the command line, or mappings with the fields of `DataSource`.

    Paths are relative to the list's own folder.

    Raises:
        LifelongError: it is no such list, a key is unknown (the nearest is named), or a value is of the wrong type.
    """
    path = Path(path).expanduser()
    listed = _parse(path)
    if not isinstance(listed, list) or not listed:
        raise LifelongError(
            "not a list of sources", where=str(path), fix="Write one source a line: - docs/:markdown@2.0"
        )
    return [_source(item, f"{path}, source {number}", path.parent) for number, item in enumerate(listed, start=1)]


def _parse(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise LifelongError(f"cannot be read: {error.strerror}", where=str(path), fix="Check the path.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise LifelongError(
            f"not valid YAML: {getattr(error, 'problem', None) or error}", where=f"{path}{line}"
        ) from None


def _is_list(source: str | Path) -> bool:
    """Whether a YAML file named as a source lists sources; a mapping, or what is no YAML, is text to be read."""
    if Path(source).suffix.lower() not in (".yaml", ".yml"):
        return False
    try:
        path = Path(source).expanduser()
        return path.is_file() and path.stat().st_size <= _LARGEST and isinstance(_parse(path), list)
    except (LifelongError, OSError, RuntimeError):
        return False


def _source(item: Any, where: str, folder: Path) -> DataSource:
    fix = "If this file is text to be learned, give it as PATH:text."
    if isinstance(item, str):
        if item.startswith(HUB_PREFIX):
            return DataSource.parse(item)
        # Read as a path below the list's folder, so that a name that exists there is taken whole.
        return DataSource.parse(str(folder / Path(item).expanduser()))
    if not isinstance(item, dict):
        raise LifelongError("a source is a string or a mapping", where=where, fix=fix)
    for key in item:
        if key not in _KEYS:
            known = f"Known keys: {', '.join(_KEYS)}. {fix}"
            raise LifelongError(f"unknown key '{key}'.{suggest(str(key), _KEYS)}", where=where, fix=known)
    if not isinstance(item.get("path"), str):
        raise LifelongError("the source has no 'path' of text", where=where, fix=fix)
    for key in ("kind", "format", "encoding", "delimiter"):
        if key in item and not isinstance(item[key], str):
            raise LifelongError(f"'{key}' must be a string", where=where)
    if isinstance(item.get("weight", 1.0), bool) or not isinstance(item.get("weight", 1.0), int | float | str):
        raise LifelongError("'weight' must be a number", where=where)
    return DataSource(**{**item, "path": _below(folder, item["path"])})


def _below(folder: Path, path: str | Path) -> str:
    if str(path).startswith(HUB_PREFIX):
        return str(path)
    return str(folder / Path(path).expanduser())
