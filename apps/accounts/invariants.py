"""What must always hold of people's rows and of the audit log."""

from apps.accounts.audit import checking
from apps.core.invariants import Finding, invariant


@invariant("accounts.audit_chain")
def audit_chain() -> Finding:
    """The newest seals, the triggers, the last nightly check; the whole chain is `manage.py audit verify`."""
    violations, facts = checking.recent_check()
    return Finding(violations[:20], facts)
