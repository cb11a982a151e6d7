"""What must hold of withdrawals: one end each, one transaction each, the hold's way back taken once."""

from django.db import connection

from apps.core.invariants import Finding, invariant

_LIMIT = 20

_JOURNALS = """
SELECT w.id, w.state, held.count, settled.count, released.count
FROM withdrawals_withdrawal w
CROSS JOIN LATERAL (SELECT count(*) FROM ledger_journal WHERE reference = 'withdrawal:' || w.id || ':hold') held
CROSS JOIN LATERAL (SELECT count(*) FROM ledger_journal WHERE reference = 'withdrawal:' || w.id || ':settle') settled
CROSS JOIN LATERAL (SELECT count(*) FROM ledger_journal WHERE reference = 'withdrawal:' || w.id || ':release') released
WHERE NOT (
    held.count = 1
    AND settled.count = CASE WHEN w.state = 'confirmed' THEN 1 ELSE 0 END
    AND released.count = CASE WHEN w.state IN ('failed', 'cancelled', 'rejected') THEN 1 ELSE 0 END
) LIMIT %s
"""

_TRANSACTIONS = """
SELECT w.id, w.state, coalesce(t.state, 'none') FROM withdrawals_withdrawal w
LEFT JOIN chain_outboundtransaction t ON t.id = w.transaction_id
WHERE (w.state = 'confirmed' AND t.state IS DISTINCT FROM 'confirmed')
    OR (w.state IN ('sending', 'sent', 'confirmed') AND t.reference IS DISTINCT FROM 'withdrawal:' || w.id)
    OR (w.state = 'failed' AND t.state = 'confirmed' AND w.reason <> 'moved_nothing')
    OR (w.state IN ('cancelled', 'rejected') AND t.id IS NOT NULL)
LIMIT %s
"""

# An intent without a withdrawal that knows of it would be money leaving for nobody.
_STRAY = """
SELECT t.id, t.reference FROM chain_outboundtransaction t
LEFT JOIN withdrawals_withdrawal w ON w.transaction_id = t.id
WHERE t.purpose = 'withdrawal' AND w.id IS NULL LIMIT %s
"""

_APPROVED = """
SELECT w.id, count(a.id) FROM withdrawals_withdrawal w
JOIN withdrawals_withdrawalapproval a ON a.withdrawal_id = w.id
GROUP BY w.id, w.user_id, w.state
HAVING bool_or(a.operator_id = w.user_id) OR (
    w.state IN ('approved', 'sending', 'sent', 'confirmed') AND count(DISTINCT a.operator_id) < 2
) LIMIT %s
"""


@invariant("withdrawals end once, and each end is booked")
def withdrawals_end_once() -> Finding:
    """One hold each; one settlement when confirmed, one release when it did not leave, neither before."""
    bad = [
        f"withdrawal {row[0]} ({row[1]}): {row[2]} holds, {row[3]} settlements, {row[4]} releases"
        for row in _rows(_JOURNALS)
    ]
    return Finding(bad, _facts())


@invariant("withdrawals have one transaction each")
def withdrawals_have_one_transaction() -> Finding:
    """Confirmed ones were mined; nothing that was called off has an intent; no intent is nobody's."""
    bad = [f"withdrawal {row[0]} ({row[1]}): transaction {row[2]}" for row in _rows(_TRANSACTIONS)]
    bad += [f"transaction {row[0]} ({row[1]}) belongs to no withdrawal" for row in _rows(_STRAY)]
    return Finding(bad, _facts())


@invariant("approved withdrawals have two operators' word")
def withdrawals_approved_by_two() -> Finding:
    """Whatever any operator approved and is on its way was approved by two, none of them its owner."""
    return Finding([f"withdrawal {row[0]}: {row[1]} approvals" for row in _rows(_APPROVED)], _facts())


def _rows(statement: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [_LIMIT])
        return list(cursor.fetchall())


def _facts() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(closed_at) FROM withdrawals_withdrawal")
        total, final = cursor.fetchone()
    return {"withdrawals": total, "final": final}
