"""Chat templates of other makers: programs, which are run with nothing in reach and for a limited number of steps."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LONGEST = 100_000  # characters of a template; the longest that are published have 20,000
_STEPS = 200_000  # lines of its program; the longest that are published take 2,000 for a short conversation
_WIDEST = 1_000_000  # characters or items of a value
# Filters that write as much as a number says.
_NUMBERED = ("batch", "center", "filesizeformat", "format", "indent", "slice", "truncate", "wordwrap")


class _Sandbox(ImmutableSandboxedEnvironment):
    """No attributes of Python's own, no changes of what is given, no values of enormous size."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute, unless the result would be enormous."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator == "%" and not numbers):
            raise SecurityError(f"the operator {operator} is not allowed here")
        if operator == "*" and not numbers:
            size = len(left) * right if hasattr(left, "__len__") else len(right) * left
            if size > _WIDEST:
                raise SecurityError("a value of enormous size")
        return super().call_binop(context, operator, left, right)


def render(template: str, **values: Any) -> str:
    """Run a chat template.

    Raises:
        Exception: whatever a template raises; ``SecurityError`` where it reaches for what it may not have, is too long,
            or does not come to an end.
    """
    if len(template) > _LONGEST:
        raise SecurityError(f"it has {len(template):,} characters")
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    for name in _NUMBERED:
        environment.filters.pop(name)
    program = environment.from_string(template)
    left = _STEPS

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise SecurityError("it does not come to an end")
        return count

    before = sys.gettrace()
    sys.settrace(count)  # counts steps, not seconds: the same template ends the same way on any machine
    try:
        return program.render(**values)
    finally:
        sys.settrace(before)


def _refuse(message: str) -> None:
    raise ValueError(message)
