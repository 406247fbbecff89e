"""The one exception a user can cause, and how a near miss is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LifelongError(Exception):
    """Something the user can put right.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: what happened, in one sentence.
        where: the place: ``file:line``, a key, a row, a path.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.fix}" if self.fix else head


class Interrupted(LifelongError):
    """Work stopped by Ctrl-C after its state was saved; the message says how to go on."""

    exit_code = 130


# Of the letters of two words, the share that agrees: "sfd" is near "sft" (0.67), "greedy" is not near "seed" (0.6).
_NEAR = 0.65


def suggest(word: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest option, or an empty string where none is near."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=_NEAR)
    return f" Did you mean '{near[0]}'?" if near else ""
