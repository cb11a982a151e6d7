"""What must always hold of collecting."""

from django.db import connection

from apps.core.invariants import Finding, invariant

_SHOWN = 50

# A sweep that is done moved what its journal says, once; one that is not has none.
_SWEEPS = """
SELECT sweep.id, sweep.state, sweep.units, sweep.received_units, entry.units FROM deposits_sweep AS sweep
LEFT JOIN ledger_journal AS journal ON journal.reference = 'sweep:' || sweep.id
LEFT JOIN LATERAL (
    SELECT sum(entry.amount_units) AS units FROM ledger_entry AS entry
    JOIN ledger_account AS account ON account.id = entry.account_id AND account.kind = 'custody'
    WHERE entry.journal_id = journal.id AND account.ref = 'deposits'
) AS entry ON true
WHERE (sweep.state = 'done') <> (journal.id IS NOT NULL)
    OR (sweep.state = 'done' AND sweep.units IS DISTINCT FROM entry.units)
ORDER BY sweep.id LIMIT %(shown)s
"""


@invariant("deposits.sweeps_booked_once")
def sweeps_booked_once() -> Finding:
    """A sweep that is done has one journal of the units it moved; any other has none."""
    with connection.cursor() as cursor:
        cursor.execute(_SWEEPS, {"shown": _SHOWN})
        rows = cursor.fetchall()
    return Finding(
        [f"sweep {row[0]} {row[1]}: moved {row[2]}, received {row[3]}, booked {row[4]}" for row in rows]
    )
