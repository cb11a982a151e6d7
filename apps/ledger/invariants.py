"""What must always hold in the books, cheap enough for production.

Entries are append-only and each carries the balance after it, so that a balance is proved by its newest
entry, and a chain of entries by its links. While the books are small everything is looked at; beyond that,
what was posted in the last 35 days: older entries were looked at while they were young. `facts` says which.
"""

from datetime import timedelta
from typing import Any

from django.db import connection

from apps.core import clock, partitions
from apps.core.ids import uuid7_floor
from apps.core.invariants import Finding, invariant
from apps.ledger.models import NIL

WHOLE_BOOKS_MAX_ENTRIES = 2_000_000
RECENT = timedelta(days=35)
_SHOWN = 20

_SIZE = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger_entry'::regclass)
"""

_ZERO_SUM = """
WITH sums AS (
    SELECT journal_id, asset_id, sum(amount_units) AS units, count(*) AS entries
    FROM ledger_entry WHERE id >= %s GROUP BY journal_id, asset_id
)
SELECT (SELECT count(*) FROM sums), (SELECT coalesce(sum(entries), 0) FROM sums),
    ARRAY(SELECT format('journal %%s, asset %%s: off by %%s units', journal_id, asset_id, units)
          FROM sums WHERE units <> 0 LIMIT %s)
"""

_BALANCES = """
WITH compared AS (
    SELECT account.id, account.balance_units, coalesce(newest.balance_after_units, 0) AS proved,
        account.last_entry_id, newest.id AS newest_id
    FROM ledger_account AS account LEFT JOIN LATERAL (
        SELECT id, balance_after_units FROM ledger_entry AS entry
        WHERE entry.account_id = account.id ORDER BY entry.id DESC LIMIT 1
    ) AS newest ON true
)
SELECT (SELECT count(*) FROM compared),
    ARRAY(SELECT format('account %%s: balance %%s, entries say %%s', id, balance_units, proved)
          FROM compared WHERE balance_units <> proved OR last_entry_id <> coalesce(newest_id, %s) LIMIT %s)
"""

_CHAIN = """
WITH walked AS (
    SELECT id, account_id, balance_after_units - amount_units AS before_units,
        lag(balance_after_units, 1, %s) OVER (PARTITION BY account_id ORDER BY id) AS expected
    FROM ledger_entry WHERE id >= %s
)
SELECT (SELECT count(*) FROM walked),
    ARRAY(SELECT format('entry %%s of account %%s: starts from %%s, the one before ended at %%s',
                        id, account_id, before_units, expected)
          FROM walked WHERE before_units <> expected LIMIT %s)
"""


def _since() -> tuple[Any, dict[str, Any]]:
    """The first id to look at, and the fact that says so."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZE)
        if cursor.fetchone()[0] <= WHOLE_BOOKS_MAX_ENTRIES:
            return NIL, {"since": "the first entry"}
    start = clock.now() - RECENT
    return uuid7_floor(start), {"since": start.isoformat()}


@invariant("ledger.journals_sum_to_zero")
def journals_sum_to_zero() -> Finding:
    since, facts = _since()
    with connection.cursor() as cursor:
        cursor.execute(_ZERO_SUM, [since, _SHOWN])
        sums, entries, violations = cursor.fetchone()
    return Finding(violations, {**facts, "journal_assets": sums, "entries": int(entries)})


@invariant("ledger.balances_equal_entries")
def balances_equal_entries() -> Finding:
    """Each account's balance is what its newest entry says; `ledger.entries_continue` proves the rest."""
    with connection.cursor() as cursor:
        cursor.execute(_BALANCES, [NIL, _SHOWN])
        accounts, violations = cursor.fetchone()
    return Finding(violations, {"accounts": accounts})


@invariant("ledger.entries_continue")
def entries_continue() -> Finding:
    """Each entry starts where the account's one before it ended; an account's first starts from zero."""
    since, facts = _since()
    # The first entry inside a window has its predecessor outside: nothing to compare it with.
    start = 0 if since == NIL else None
    with connection.cursor() as cursor:
        cursor.execute(_CHAIN, [start, since, _SHOWN])
        entries, violations = cursor.fetchone()
    return Finding(violations, {**facts, "entries": entries})


@invariant("ledger.default_partition_empty")
def default_partition_empty() -> Finding:
    """Entries in the default partition mean that no partition was made for their month in time."""
    rows = partitions.default_rows().get("ledger_entry", 0)
    return Finding([f"{rows} entries in ledger_entry_default"] if rows else [], {"entries": rows})
