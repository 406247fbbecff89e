"""Text and numbers as HTML."""

from __future__ import annotations

import html
import re

from lifelong.evaluate.matrix import NOTICEABLE

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CODE = re.compile(r"`([^`\n]+)`")


def esc(text: object) -> str:
    """Return text safe between tags and inside quoted attributes; what HTML cannot hold becomes U+FFFD."""
    whole = str(text).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return html.escape(_CONTROL.sub("\ufffd", whole), quote=True)


def esc_with_code(text: object) -> str:
    """Like :func:`esc`, with words in backticks set as code."""
    return _CODE.sub(r"<code>\1</code>", esc(text))


def percent(value: float) -> str:
    """Return a relative change with its sign: ``+3.1%``; a real minus sign, not a hyphen."""
    return f"{100 * value:+.1f}%".replace("-", "−")


def signed(value: float) -> str:
    """Return a difference in bits per byte with its sign and three digits."""
    return f"{value:+.3f}".replace("-", "−")


def signed_class(change: float) -> str:
    """Return the style class of a change in bits per byte: fewer is better."""
    return "worse" if change > NOTICEABLE else "better" if change < -NOTICEABLE else "same"
