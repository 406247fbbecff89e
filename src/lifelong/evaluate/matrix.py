"""The matrix of bits per byte: what every session did to every domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lifelong.errors import LifelongError

if TYPE_CHECKING:
    from rich.table import Table

# A smaller relative change than this is shown as no change: it is within the noise of most test slices.
NOTICEABLE = 0.005
# Characters of a cell of the table (12.345 +123.4%), of a folded label, and what stands around each column.
_CELL, _LABEL, _BORDER = 14, 24, 3


@dataclass(frozen=True)
class Measuring:
    """How a matrix is measured, the same for all of its rows: tokens of a row (None: the model's own), and bytes of
    each domain's slice.
    """

    sequence_length: int | None
    max_bytes: int


@dataclass
class Matrix:
    """``bpb[i][j]`` is bits per byte on domain ``j``'s test slice after session ``i``; row 0 is the start.

    Bits per byte fall as a model gets better, accuracies (which the sources below use) rise. The differences are
    therefore taken the other way round, so that the signs read as in the papers: **negative backward transfer is
    forgetting**, positive forward transfer is help.

    A domain counts as learned at the first row whose label is the domain's name, else at row 0 (the base model knew
    it). ``None`` marks a cell that was not measured.

    ``joint`` is no session: bits per byte on the same test slices of a reference model that was trained on the text of
    all domains at once. ``notes`` say of domains what makes their column hard to compare, ``stale`` what the last row
    does not know of yet. ``measuring`` is how all rows are measured; matrices of earlier versions do not say it.

    Raises:
        LifelongError: rows and labels do not fit, or a number is not finite.
    """

    domains: list[str]
    sessions: list[str]
    bpb: list[list[float | None]]
    notes: dict[str, str] = field(default_factory=dict)
    joint: list[float | None] | None = None
    stale: str = ""
    measuring: Measuring | None = None

    def __post_init__(self) -> None:
        if len(self.bpb) != len(self.sessions):
            raise LifelongError(f"the matrix has {len(self.bpb)} rows for {len(self.sessions)} sessions")
        rows = list(zip(self.sessions, self.bpb, strict=True))
        for label, row in rows if self.joint is None else [*rows, ("joint", self.joint)]:
            if len(row) != len(self.domains):
                raise LifelongError(f"row '{label}' has {len(row)} cells for {len(self.domains)} domains")
            for domain, value in zip(self.domains, row, strict=True):
                if value is not None and not math.isfinite(value):
                    raise LifelongError(f"row '{label}', domain '{domain}': {value} is not a finite number")

    def learned_at(self, domain: int) -> int:
        """Return the row after which domain number ``domain`` counts as learned."""
        name = self.domains[domain]
        return next((row for row, label in enumerate(self.sessions) if row and label == name), 0)

    @property
    def average(self) -> float | None:
        """Mean bits per byte over the domains after the last session (GEM's ACC, on our scale)."""
        return _mean([value for value in self.bpb[-1] if value is not None]) if self.bpb else None

    @property
    def bwt(self) -> float | None:
        """Backward transfer in bits per byte: mean of R[learned][j] - R[last][j] over domains learned before the end.

        Negative = later sessions made the model worse at what it knew. Lopez-Paz & Ranzato 2017, "Gradient Episodic
        Memory for Continual Learning" (arXiv:1706.08840), section 2, with the sign turned for bits per byte.
        """
        pairs = [(self._first_known(j), self._last(j)) for j in self._earlier_domains()]
        return _mean([known - last for known, last in pairs if known is not None and last is not None])

    @property
    def fwt(self) -> float | None:
        """Forward transfer in bits per byte: mean of R[0][j] - R[learned - 1][j] over domains learned in session >= 2.

        Positive = earlier sessions helped before the domain was taught. Same source; the model before any session
        takes the place of the paper's random initialisation. None until a second session taught a new domain.
        """
        gains = []
        for j in range(len(self.domains)):
            row = self.learned_at(j)
            if row >= 2 and (start := self.bpb[0][j]) is not None and (before := self.bpb[row - 1][j]) is not None:
                gains.append(start - before)
        return _mean(gains)

    @property
    def forgetting(self) -> dict[str, float | None]:
        """Per domain, R[last][j] minus the best earlier R[i][j], in bits per byte; positive = forgotten.

        Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning" (arXiv:1801.10112), section 3, with the
        sign turned for bits per byte. None for a domain learned only in the last session.
        """
        earlier = set(self._earlier_domains())
        result: dict[str, float | None] = {}
        for j, name in enumerate(self.domains):
            past = [value for row in self.bpb[:-1] if (value := row[j]) is not None]
            last = self._last(j)
            result[name] = last - min(past) if j in earlier and past and last is not None else None
        return result

    @property
    def intransigence(self) -> dict[str, dict[str, float | None]]:
        """Per domain, how far the model stays behind the joint one: R[learned][j] - joint[j] and R[last][j] - joint[j].

        In bits per byte, under ``taught`` (right after the domain was) and ``end``; positive = it could not learn, or
        keep, what joint training can. The first is the measure of Chaudhry et al. 2018 (arXiv:1801.10112), section 3,
        with the sign turned for bits per byte; their reference for task k saw tasks 1 to k, ours saw all. Of a domain
        that the model knew before any session, ``taught`` is None. Empty without a joint model.
        """
        result: dict[str, dict[str, float | None]] = {}
        for j, (name, best) in enumerate(zip(self.domains, self.joint or [], strict=False)):
            row, last = self.learned_at(j), self._last(j)
            taught = self.bpb[row][j] if row else None
            if best is not None:
                result[name] = {
                    "taught": None if taught is None else taught - best,
                    "end": None if last is None else last - best,
                }
        return result

    def change(self, row: int, domain: int) -> float | None:
        """Relative change of a cell against the row where the domain was last taught, or else first measured.

        At the row of the domain's own session this is what the session gained; in later rows, what was lost since.
        0.1 = ten percent more bits per byte = worse. None where there is nothing to compare with.
        """
        before = self.row_before(row, domain)
        return None if before is None else self._relative(row, before, domain)

    def row_before(self, row: int, domain: int) -> int | None:
        """Return the row that `change` compares with."""
        measured = [i for i in range(row) if self.bpb[i][domain] is not None]
        taught = [i for i in measured if i and self.sessions[i] == self.domains[domain]]
        return (taught or measured[:1])[-1] if measured else None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``lifelong matrix --json`` prints."""
        return {
            "domains": list(self.domains),
            "sessions": list(self.sessions),
            "bpb": [list(row) for row in self.bpb],
            "bwt": self.bwt,
            "fwt": self.fwt,
            "average": self.average,
            "forgetting": self.forgetting,
            **({"stale": self.stale} if self.stale else {}),
            **({"measuring": asdict(self.measuring)} if self.measuring else {}),
            **({"notes": dict(self.notes)} if self.notes else {}),
            **({"joint": list(self.joint), "intransigence": self.intransigence} if self.joint is not None else {}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Matrix:
        """Build from :meth:`to_dict`'s form; the derived numbers are computed anew.

        Raises:
            LifelongError: a key is missing or the shape is wrong.
        """
        try:
            rows = [[None if cell is None else float(cell) for cell in row] for row in values["bpb"]]
            domains, sessions = ([str(name) for name in values[key]] for key in ("domains", "sessions"))
            notes = {str(name): str(note) for name, note in values.get("notes", {}).items()}
            raw = values.get("joint")
            joint = None if raw is None else [None if cell is None else float(cell) for cell in raw]
            how = values.get("measuring")
            measuring = Measuring(how["sequence_length"], int(how["max_bytes"])) if how else None
            return cls(domains, sessions, rows, notes, joint, str(values.get("stale", "")), measuring)
        except KeyError as error:
            raise LifelongError(f"the matrix lacks {error.args[0]!r}") from None
        except (TypeError, ValueError) as error:
            raise LifelongError(f"not a matrix of numbers: {error}") from None

    def to_tables(self, width: int) -> list[Table]:
        """Return tables for a screen of this width: one, or where that is too narrow, one below the other.

        No name is cut: a long one goes over several lines.
        """
        widest = max((len(name) for name in self.domains), default=0)
        label = max(len(name) for name in [*self.sessions, "after", "joint model" if self.joint is not None else ""])
        if label + len(self.domains) * (max(widest, _CELL) + _BORDER) + _BORDER + 1 <= width:
            return [self.to_table()]
        count = max(1, (width - min(label, _LABEL) - _BORDER - 1) // (_CELL + _BORDER))
        every = range(len(self.domains))
        parts = [every[start : start + count] for start in every[::count]] or [every]
        return [self.to_table(part, last=part[-1:] == every[-1:], folded=True) for part in parts]

    def to_table(self, domains: Sequence[int] | None = None, *, last: bool = True, folded: bool = False) -> Table:
        """Return a table for the terminal: green where a cell got better, red where it got worse (:meth:`change`).

        Args:
            domains: the columns (default: all).
            last: whether the figures over all domains stand below.
            folded: whether long names go over several lines.
        """
        from rich.table import Table
        from rich.text import Text

        shown_domains = range(len(self.domains)) if domains is None else domains
        title = "Bits per byte on held-out text (lower is better)"
        if len(shown_domains) < len(self.domains):
            title += f", domains {shown_domains[0] + 1} to {shown_domains[-1] + 1} of {len(self.domains)}"
        caption = Text(self.summary(), style="table.caption") if last else None
        table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
        table.add_column("after", overflow="fold", max_width=_LABEL if folded else None)
        for j in shown_domains:
            table.add_column(
                Text(self.domains[j]), justify="right", overflow="fold", max_width=_CELL if folded else None
            )
        for i, label in enumerate(self.sessions):
            cells = [Text(label, style="bold")]
            for j in shown_domains:
                value = self.bpb[i][j]
                change = self.change(i, j)
                cell = Text("-" if value is None else f"{value:.3f}")
                if change is not None:
                    style = "red" if change > NOTICEABLE else "green" if change < -NOTICEABLE else "dim"
                    cell.append(f" {100 * change:+6.1f}%", style=style)
                elif value is not None:
                    cell.append(" " * 8)
                cells.append(cell)
            table.add_row(*cells)
        if self.joint is not None:
            values = [self.joint[j] for j in shown_domains]
            shown = ["-" if value is None else f"{value:.3f}" + " " * 8 for value in values]
            table.add_section()
            table.add_row(Text("joint model", style="bold"), *shown)
        return table

    def summary(self) -> str:
        """Return average, backward and forward transfer in one line; below it forgetting by domain, intransigence, and
        the notes.
        """
        numbers = [("average", self.average, ".3f"), ("backward transfer", self.bwt, "+.3f")]
        numbers.append(("forward transfer", self.fwt, "+.3f"))
        lines = [", ".join(f"{name} {value:{spec}}" for name, value, spec in numbers if value is not None)]
        lost = {name: value for name, value in self.forgetting.items() if value is not None}
        if len(self.sessions) > 2 and lost:
            lines.append("forgetting (bits per byte above the best before): ")
            lines[-1] += ", ".join(f"{name} {value:+.3f}" for name, value in lost.items())
        if found := self.intransigence:
            lines.append("intransigence (bits per byte above the joint model, when taught and at the end)")
            spelt = {name: [_signed(both["taught"]), _signed(both["end"])] for name, both in found.items()}
            lines += [f"  {name} {taught}, {end}" for name, (taught, end) in spelt.items()]
        lines += [f"note on {name}: {note}" for name, note in self.notes.items()]
        lines += [f"note: {self.stale}"] if self.stale else []
        return "\n".join(lines)

    def _earlier_domains(self) -> list[int]:
        return [j for j in range(len(self.domains)) if self.learned_at(j) < len(self.sessions) - 1]

    def _first_known(self, domain: int) -> float | None:
        """The domain's value when it was learned; if that row was not measured, the next that was, before the last."""
        rows = self.bpb[self.learned_at(domain) : -1]
        return next((value for row in rows if (value := row[domain]) is not None), None)

    def _last(self, domain: int) -> float | None:
        return self.bpb[-1][domain] if self.bpb else None

    def _relative(self, row: int, reference: int, domain: int) -> float | None:
        now, then = self.bpb[row][domain], self.bpb[reference][domain]
        return None if now is None or not then else now / then - 1.0


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
