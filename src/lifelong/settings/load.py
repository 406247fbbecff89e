"""Settings from a file and from the command line, with errors that name file, line and the nearest known key."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from lifelong.errors import LifelongError
from lifelong.settings.base import Settings, explain
from lifelong.settings.keys import canonical, nest, walk

S = TypeVar("S", bound=Settings)


@dataclass(slots=True)
class SettingsFile:
    """What a settings file holds: its mapping, and the line of every key (dotted paths, 1-based)."""

    path: Path
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str = "") -> str:
        """Return ``file:line`` of a key, or of the nearest group around it that the file names."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


def read_settings_file(path: Path) -> SettingsFile:
    """Read a YAML or JSON file that holds a mapping.

    Raises:
        LifelongError: the file is missing, empty, no text, no valid YAML or JSON, no mapping, or names a key twice;
            the message names the line.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LifelongError("settings file not found", where=str(path)) from None
    except IsADirectoryError:
        raise LifelongError("this is a directory, a YAML or JSON file is needed", where=str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise LifelongError("the settings file is not UTF-8 text", where=f"{path}:{line}") from None
    except OSError as error:
        raise LifelongError(f"cannot read the settings file: {error.strerror}", where=str(path)) from None
    if not text.strip():
        raise LifelongError("the settings file is empty", where=f"{path}:1", fix="Write at least one 'key: value'.")
    is_json = path.suffix.lower() == ".json"
    if is_json:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            raise LifelongError(f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}") from None
        text = text.replace("\t", " ")  # JSON allows tabs between its parts, the YAML reader below does not
    values, lines = _parse(text, path)
    return SettingsFile(path, json.loads(text) if is_json else values, lines)


def _parse(text: str, path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        lines: dict[str, int] = {}
        if isinstance(node, yaml.MappingNode):
            _mark(node, path, lines)
        values = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise LifelongError(f"not valid YAML: {error.problem or error.context}", where=where) from None
    except yaml.YAMLError as error:
        raise LifelongError(f"not valid YAML: {error}", where=str(path)) from None
    except ValueError as error:  # a date such as 2024-13-45
        raise LifelongError(f"not valid YAML: {error}", where=str(path)) from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        found = {list: "a list", str: "a single text", type(None): "nothing"}.get(type(values), "a single value")
        line = node.start_mark.line + 1 if node is not None else 1
        raise LifelongError(f"the settings file must hold 'key: value' lines, found {found}", where=f"{path}:{line}")
    return values, lines


def _mark(node: yaml.MappingNode, path: Path, lines: dict[str, int], prefix: str = "") -> None:
    for key_node, value_node in node.value:
        key = prefix + str(key_node.value).replace("-", "_")
        line = key_node.start_mark.line + 1
        if key in lines and key_node.value != "<<":
            raise LifelongError(f"setting '{key}' is given twice (first in line {lines[key]})", where=f"{path}:{line}")
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _mark(value_node, path, lines, f"{key}.")


def load_settings(
    cls: type[S],
    config: Path | str | SettingsFile | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    beneath: Mapping[str, Any] | None = None,
) -> S:
    """Merge defaults, what lies ``beneath`` a file, the file and overrides, each over the one before.

    An override of one of several exclusive settings (``steps``) sets aside the others in the file (``epochs``).

    Args:
        cls: the settings to build.
        config: a YAML or JSON file, read or yet to read, or None.
        overrides: dotted keys (``optimizer.learning_rate``) or synonyms, and their values.
        beneath: the same, under the file: a profile's.

    Raises:
        LifelongError: an unknown key or a wrong value; names file and line, the key and the nearest known one.
    """
    source = read_settings_file(Path(config)) if isinstance(config, Path | str) else config
    from_file: dict[str, Any] = {}
    lines: dict[str, int] = {}
    if source is not None:
        lines = {canonical(cls, key): line for key, line in source.lines.items()}
        for given, value in walk(cls, source.values):
            key = canonical(cls, given)
            if key in from_file:
                raise LifelongError(f"setting '{key}' is given twice, once as '{given}'", where=source.where(given))
            from_file[key] = value
        source.lines = lines
    below = {canonical(cls, key): value for key, value in walk(cls, beneath or {})}
    given_here = {canonical(cls, key): value for key, value in walk(cls, overrides or {})}
    merged: dict[str, Any] = {}
    exclusive: tuple[str, ...] = getattr(cls, "exclusive", ())
    for layer in (below, from_file, given_here):
        if any(layer.get(key) is not None for key in exclusive):
            merged = {key: value for key, value in merged.items() if key not in exclusive}
        merged.update(layer)
    return validate(cls, nest(merged), source, here=given_here.keys() | (below.keys() - from_file.keys()))


def validate(
    cls: type[S],
    values: Mapping[str, Any],
    source: SettingsFile | None = None,
    *,
    prefix: str = "",
    here: Collection[str] = (),
) -> S:
    """Build settings from a nested mapping.

    Args:
        cls: the settings to build.
        values: nested names and values.
        source: the file that the values come from, whose lines are named.
        prefix: where in the file the mapping lies, such as ``model.``.
        here: dotted keys that do not come from the file.

    Raises:
        LifelongError: names all problems at once, misspelled keys first, since they explain missing ones.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        items = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        problems = [_placed(cls, item, source, prefix, here) for item in items]
    (where, what), *others = problems
    lines = [what, *(f"{place}: {text}" if place else text for place, text in others)]
    raise LifelongError("\n  ".join(lines), where=where)


def _placed(
    cls: type[Settings], item: Any, source: SettingsFile | None, prefix: str, here: Collection[str]
) -> tuple[str | None, str]:
    key = ".".join(str(part) for part in item["loc"])
    where = source.where((prefix + key).rstrip(".")) if source is not None and key not in here else None
    return where, explain(cls, item)
