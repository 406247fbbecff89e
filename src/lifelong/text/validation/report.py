"""What a check found: findings by rule, each with a count, a few places, and what to do; and facts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lifelong.text.readers.rules import RULES as READERS_RULES
from lifelong.text.validation.rules import RULES, Rule, Severity

# A rule that only a reader knows: the reader's own words say what is wrong and what to do.
_UNNAMED = Rule("error", "", "")
_KINDS = 50  # counted below one rule, so that rows with a thousand different keys stay a short report
# A text, or what makes it where it is shown.
Lazy = str | Callable[[], str]


@dataclass(frozen=True, slots=True)
class Example:
    """One place where a rule was broken: ``file:line`` and a snippet, in which secrets are masked."""

    where: str
    snippet: str


@dataclass(slots=True)
class Finding:
    """How often one rule was broken, where for example, and what to do.

    Attributes:
        by_kind: counts below the rule, such as the kinds of secrets; empty where a rule knows none.
    """

    rule: str
    severity: Severity
    title: str
    fix: str
    count: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    def line(self) -> str:
        """Return the finding in one line: title, count, the first place."""
        first = f" (such as {self.examples[0].where}: {self.examples[0].snippet})" if self.examples else ""
        return f"{self.title}: {self.count:,}{first}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return dataclasses.asdict(self) | {"by_kind": dict(self.by_kind)}


@dataclass(slots=True)
class ValidationReport:
    """The result of a check: errors stop a training, warnings do not, facts only inform."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "ok": self.ok,
            "errors": [finding.to_dict() for finding in self.errors],
            "warnings": [finding.to_dict() for finding in self.warnings],
            "facts": self.facts,
        }


class Findings:
    """Collects findings in bounded memory: counts of all, and the first few places of each rule and kind.

    Args:
        examples: how many places of each rule are kept.
    """

    def __init__(self, examples: int = 5) -> None:
        self.limit = examples
        self.by_rule: dict[str, Finding] = {}

    def add(self, rule: str, where: Lazy, snippet: Lazy, *, kind: str = "", fix: str = "", count: int = 1) -> None:
        """Count a finding; ``where`` and ``snippet``, if functions, are only called where the example is kept.

        Of a rule with kinds, one kind takes at most half of the room, so that others are seen too.
        """
        if (finding := self.by_rule.get(rule)) is None:
            known = RULES.get(rule, _UNNAMED)
            title = known.title or READERS_RULES.get(rule, rule)
            finding = self.by_rule[rule] = Finding(rule, known.severity, title, known.fix or fix)
        if len(finding.by_kind) >= _KINDS and kind not in finding.by_kind:
            kind = kind and "other"
        seen = finding.by_kind[kind] if kind else finding.count
        finding.count += count
        if kind:
            finding.by_kind[kind] += count
        room = self.limit - len(finding.examples)
        if room > 0 and (not kind or seen < max(2, self.limit // 2)):
            finding.examples.append(Example(*(item if isinstance(item, str) else item() for item in (where, snippet))))

    @property
    def has_errors(self) -> bool:
        """Whether one of them is an error."""
        return any(finding.severity == "error" for finding in self.by_rule.values())

    def report(self, facts: dict[str, Any]) -> ValidationReport:
        """Return the report: errors and warnings, the most frequent first."""
        ranked = sorted(self.by_rule.values(), key=lambda finding: (-finding.count, finding.rule))
        return ValidationReport(
            errors=[finding for finding in ranked if finding.severity == "error"],
            warnings=[finding for finding in ranked if finding.severity == "warning"],
            facts=facts,
        )
