"""Names of settings: nested groups, dotted paths, and the short or foreign names that mean the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, model_validator
from pydantic.fields import FieldInfo

from lifelong.errors import suggest
from lifelong.settings.base import Settings


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError("use letters, digits, '.', '_' and '-', at most 64: it names a folder")
    return name


# The name of a domain or an adapter.
FolderName = Annotated[str, AfterValidator(_check_name)]


class NamedSettings(Settings):
    """Settings in groups, whose keys may also be given flat (``learning_rate``) or dotted.

    Class variables:
        synonyms: other names of a setting, and the dotted path that each stands for.
        exclusive: settings of which only one can hold; where none is given, the first has the value in
            ``exclusive_default``.
    """

    synonyms: ClassVar[Mapping[str, str]] = {}
    exclusive: ClassVar[tuple[str, ...]] = ()
    exclusive_default: ClassVar[float | None] = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        flat: dict[str, Any] = {}
        for given, value in walk(cls, values):
            key = canonical(cls, given)
            if key in flat:
                raise ValueError(f"setting '{key}' is given twice")
            flat[key] = value
        chosen = [key for key in cls.exclusive if flat.get(key) is not None]
        if len(chosen) > 1:
            raise ValueError(f"give only one of {', '.join(cls.exclusive)} (given: {', '.join(chosen)})")
        if cls.exclusive and not chosen:
            flat[cls.exclusive[0]] = cls.exclusive_default
        return nest(flat)


def group_of(cls: type[Settings], key: str) -> type[Settings] | None:
    """Return the class of the group called ``key``, or None where ``key`` is no group."""
    field = cls.model_fields.get(key)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def leaves(cls: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted path and the field of every single setting."""
    for name, field in cls.model_fields.items():
        if group := group_of(cls, name):
            yield from leaves(group, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def walk(cls: type[Settings], values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted paths and values of a nested mapping, going into groups only.

    An empty group (``optimizer:`` with all its lines commented out) yields nothing. Dashes in keys are underscores.
    """
    for given, value in values.items():
        key = str(given).replace("-", "_")
        group = group_of(cls, key)
        if isinstance(value, Settings):
            value = value.model_dump(exclude_unset=True)
        if group is not None and value is None:
            continue
        if group is not None and isinstance(value, Mapping):
            yield from walk(group, value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def canonical(cls: type[Settings], key: str) -> str:
    """Return the dotted path that a given key stands for: itself, or what it is a synonym of."""
    key = key.replace("-", "_")
    synonyms = getattr(cls, "synonyms", {})
    return str(synonyms.get(key, key))


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted paths into a nested dictionary."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        place = nested
        for group in groups:
            inner = place.setdefault(group, {})
            if not isinstance(inner, dict):  # `optimizer: 3` beside `optimizer.name`: left for validation to refuse
                inner = place[group] = {}
            place = inner
        place[name] = value
    return nested


def nearest(cls: type[Settings], key: str) -> str:
    """Return ``" Did you mean 'optimizer.learning_rate'?"`` for a key that no setting has, or an empty string."""
    paths = [path for path, _ in leaves(cls)]
    names = {**{path.rpartition(".")[2]: path for path in reversed(paths)}, **getattr(cls, "synonyms", {})}
    names.update({path: path for path in paths})
    exact = names.get(key.rpartition(".")[2])
    if exact:
        return f" Did you mean '{exact}'?"
    hint = suggest(key, names) or suggest(key.rpartition(".")[2], names)
    near = hint.partition("'")[2].rpartition("'")[0]
    return f" Did you mean '{names[near]}'?" if near else ""
