"""What must always hold, as small functions that run in production too (`manage.py invariants --json`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """One invariant's outcome: no violations means that it holds. `facts` says what was looked at."""

    name: str
    holds: bool
    violations: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a check returns: the violations (capped by the check) and what it looked at."""

    violations: Sequence[str]
    facts: dict[str, Any] = field(default_factory=dict)


_checks: dict[str, Callable[[], Finding]] = {}


def invariant(name: str) -> Callable[[Callable[[], Finding]], Callable[[], Finding]]:
    """Register a check under a stable name; each app's `invariants.py` is imported by its AppConfig."""

    def register(check: Callable[[], Finding]) -> Callable[[], Finding]:
        _checks[name] = check
        return check

    return register


def run_all() -> list[Verdict]:
    """Run every registered invariant, in name order."""
    verdicts = []
    for name in sorted(_checks):
        finding = _checks[name]()
        violations = tuple(finding.violations)
        verdicts.append(Verdict(name, not violations, violations, finding.facts))
    return verdicts
