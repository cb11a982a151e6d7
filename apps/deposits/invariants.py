"""What must always hold of deposits: credited once, held where the books say, owed by the frozen alone."""

from django.db import connection

from apps.core.invariants import Finding, invariant
from apps.treasury.domain import DEPOSITS_REF

_SHOWN = 20

# A sighting is credited by one journal at most and taken back by one at most, so that what a deposit has in the
# books is nothing, or what the row says; the unique reference keeps "at most", this compares amounts and states.
_CREDITED = """
SELECT deposit.id, deposit.state, deposit.credited_units, coalesce(booked.units, 0), coalesce(booked.credits, 0)
FROM deposits_deposit AS deposit
LEFT JOIN LATERAL (
    SELECT -sum(entry.amount_units) AS units, count(*) FILTER (WHERE journal.kind = 'deposit') AS credits
    FROM ledger_journal AS journal
    JOIN ledger_entry AS entry ON entry.journal_id = journal.id
    JOIN ledger_account AS account ON account.id = entry.account_id AND account.kind = 'custody'
    WHERE journal.reference = ANY (ARRAY(
        SELECT 'deposit:' || deposit.id || ':' || step || ':' || sighting
        FROM unnest(ARRAY['credit', 'reverse']) AS step, generate_series(1, deposit.sighting) AS sighting))
) AS booked ON true
WHERE deposit.updated_at >= now() - interval '35 days' AND (
    deposit.credited_units <> coalesce(booked.units, 0)
    OR (deposit.state = 'credited') <> (deposit.credited_units > 0)
    OR coalesce(booked.credits, 0) > deposit.sighting)
LIMIT %s
"""

_HOLDINGS = """
SELECT coalesce(held.asset_id, custody.asset_id), coalesce(held.units, 0), coalesce(custody.units, 0) FROM (
    SELECT asset_id, sum(units) AS units FROM deposits_holding GROUP BY asset_id
) AS held FULL JOIN (
    SELECT asset_id, -balance_units AS units FROM ledger_account WHERE kind = 'custody' AND ref = %s
) AS custody ON custody.asset_id = held.asset_id
WHERE coalesce(held.units, 0) <> coalesce(custody.units, 0) LIMIT %s
"""

_OWED = """
SELECT coalesce(books.owner_id, rows.user_id), coalesce(books.asset_id, rows.asset_id), coalesce(books.units, 0),
    coalesce(rows.units, 0), person.frozen_at IS NOT NULL
FROM (
    SELECT owner_id, asset_id, -balance_units AS units FROM ledger_account WHERE kind = 'owed' AND balance_units < 0
) AS books FULL JOIN (
    SELECT user_id, asset_id, sum(owed_units) AS units FROM deposits_deposit
    WHERE owed_units > 0 GROUP BY user_id, asset_id
) AS rows ON rows.user_id = books.owner_id AND rows.asset_id = books.asset_id
LEFT JOIN accounts_user AS person ON person.id = coalesce(books.owner_id, rows.user_id)
WHERE coalesce(books.units, 0) <> coalesce(rows.units, 0) OR person.frozen_at IS NULL
LIMIT %s
"""


@invariant("deposits.credited_once")
def credited_once() -> Finding:
    """What custody got for a deposit is what the row says it was credited with: nothing, or its credit.

    Looks at what changed in the last 35 days: older rows were looked at while they were young.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CREDITED, [_SHOWN])
        bad = [
            f"deposit {row[0]} ({row[1]}): row says {row[2]} units, books say {row[3]} in {row[4]} credits"
            for row in cursor.fetchall()
        ]
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE state = 'credited') FROM deposits_deposit")
        deposits, credited = cursor.fetchone()
    return Finding(bad, {"deposits": deposits, "credited": credited})


@invariant("deposits.collected_on_chain")
def collected_on_chain() -> Finding:
    """What was collected is in a block that we hold: a fork took nothing back that had left its address already."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, credited_units, gone_at FROM deposits_deposit WHERE gone_at IS NOT NULL"
            " ORDER BY gone_at LIMIT %s",
            [_SHOWN],
        )
        bad = [
            f"deposit {row[0]}: {row[1]} units credited and collected, on no chain since {row[2]:%Y-%m-%d %H:%M:%S}"
            for row in cursor.fetchall()
        ]
    return Finding(bad, {})


@invariant("deposits.holdings_equal_custody")
def holdings_equal_custody() -> Finding:
    """Per asset, what the books have at all addresses together is the custody of deposits."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLDINGS, [DEPOSITS_REF, _SHOWN])
        bad = [f"asset {row[0]}: holdings {row[1]}, custody {row[2]}" for row in cursor.fetchall()]
        cursor.execute("SELECT count(*) FROM deposits_holding")
        holdings = cursor.fetchone()[0]
    return Finding(bad, {"holdings": holdings})


@invariant("deposits.owed_by_the_frozen")
def owed_by_the_frozen() -> Finding:
    """Who owes is frozen, and owes what the ledger says."""
    with connection.cursor() as cursor:
        cursor.execute(_OWED, [_SHOWN])
        bad = [
            f"person {row[0]}, asset {row[1]}: ledger {row[2]}, deposits {row[3]}, frozen: {row[4]}"
            for row in cursor.fetchall()
        ]
        cursor.execute("SELECT count(*) FROM deposits_deposit WHERE owed_units > 0")
        debts = cursor.fetchone()[0]
    return Finding(bad, {"debts": debts})
