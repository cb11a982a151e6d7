"""What must always hold of what lies at deposit addresses and is collected from them."""

from django.db import connection

from apps.core.invariants import Finding, invariant

_SHOWN = 50

_HOLDINGS = """
SELECT coalesce(held.asset_id, account.asset_id), coalesce(held.units, 0), coalesce(-account.balance_units, 0)
FROM (SELECT asset_id, sum(units) AS units FROM deposits_holding GROUP BY asset_id) AS held
FULL JOIN (SELECT asset_id, balance_units FROM ledger_account WHERE kind = 'custody' AND ref = 'deposits') AS account
    ON account.asset_id = held.asset_id
WHERE coalesce(held.units, 0) <> coalesce(-account.balance_units, 0) LIMIT %(shown)s
"""

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


@invariant("deposits.holdings_equal_custody")
def holdings_equal_custody() -> Finding:
    """Per asset: what the books say lies at each deposit address adds up to the custody account they share."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLDINGS, {"shown": _SHOWN})
        rows = cursor.fetchall()
    return Finding([f"asset {row[0]}: holdings {row[1]}, custody {row[2]}" for row in rows])


@invariant("deposits.sweeps_booked_once")
def sweeps_booked_once() -> Finding:
    """A sweep that is done has one journal of the units it moved; any other has none."""
    with connection.cursor() as cursor:
        cursor.execute(_SWEEPS, {"shown": _SHOWN})
        rows = cursor.fetchall()
    return Finding(
        [f"sweep {row[0]} {row[1]}: moved {row[2]}, received {row[3]}, booked {row[4]}" for row in rows]
    )
