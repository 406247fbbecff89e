"""Facts beside a text, made fit for JSON: what YAML, TOML, Parquet and PDF give is more than JSON can hold."""

from __future__ import annotations

import math
from typing import Any

_MOST = 5_000  # values: aliases let a small YAML file unfold without end


def plain_facts(value: Any) -> dict[str, Any]:
    """Return a mapping with string keys and JSON values; dates and the like become strings.

    Raises:
        ValueError: it is no mapping, unfolds to more than 5,000 values, nests too deeply, or holds what no UTF-8 file
            can hold.
    """
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    left = [_MOST]
    plain: dict[str, Any] = _plain(value, left, 0)
    return plain


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
