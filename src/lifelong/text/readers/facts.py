"""Facts beside a text, made fit for JSON: what YAML, TOML, Parquet and PDF give is more than JSON can hold."""

from __future__ import annotations

import math
from typing import Any

# How data sets call their splits; `gate` is the validation split.
_SPLIT_NAMES = {"train": "train", "test": "test", "gate": "gate", "validation": "gate", "valid": "gate"}
_SPLIT_NAMES |= {"val": "gate", "dev": "gate", "eval": "gate"}
_MOST = 5_000  # values: aliases let a small YAML file unfold without end


def plain_facts(value: Any) -> dict[str, Any]:
    """Return a mapping with string keys and JSON values; dates and the like become strings.

    ``split`` is train, gate or test in the result, however the data set calls them; another word is ``split_given``.

    Raises:
        ValueError: it is no mapping, unfolds to more than 5,000 values, nests too deeply, or holds what no UTF-8 file
            can hold.
    """
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    left = [_MOST]
    plain: dict[str, Any] = _plain(value, left, 0)
    if "split" in plain:  # this fact means something to later rooms: no other value may stand under its name
        given = plain.pop("split")
        name = split_name(given) if isinstance(given, str) else None
        plain["split" if name else "split_given"] = name or given
    return plain


def split_name(name: str) -> str | None:
    """Return ``train``, ``gate`` or ``test`` for a data set's name of a split, or None where it is another."""
    return _SPLIT_NAMES.get(name.lower())


def _plain(value: Any, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > 20:
        raise ValueError("too many values")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {_text(key): _plain(item, left, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, left, depth + 1) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    text = str(value)
    text.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return text
