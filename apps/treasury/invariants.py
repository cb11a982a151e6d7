"""What must always hold between the wallets on chain and the books."""

from datetime import timedelta

from django.db import connection

from apps.core import clock
from apps.core.invariants import Finding, invariant
from apps.ledger.models import Journal
from apps.treasury import reconciliation, selectors
from apps.treasury.domain import GAS_KIND

_SHOWN = 50

# Everything that gas bookings can get wrong: a mark without a journal, a journal without a mark (save for a
# correction that is to come), another amount, and one left lying for an hour after the transaction was final. What
# a fork has put back in flight is not final, and judged when it is.
_GAS = """
SELECT booked.id, booked.said FROM (
    SELECT item.id,
        CASE
            WHEN item.gas_booked_at IS NOT NULL AND entry.units IS NULL THEN 'marked as booked, no journal'
            WHEN item.gas_booked_at IS NULL AND entry.units IS NOT NULL AND NOT entry.corrected
                THEN 'booked, not marked'
            WHEN item.gas_booked_at IS NOT NULL
                AND entry.units IS DISTINCT FROM item.gas_used * item.effective_gas_price_units
                THEN 'booked ' || entry.units || ', burned ' || item.gas_used * item.effective_gas_price_units
            WHEN item.gas_booked_at IS NULL AND item.finalized_at < %(late)s
                THEN 'not booked an hour after it was final'
        END AS said
    FROM chain_outboundtransaction AS item
    LEFT JOIN LATERAL (
        SELECT array_agg('gas:' || item.id || ':' || recheck.id) AS names FROM chain_recheck AS recheck
        WHERE recheck.transaction_id = item.id AND recheck.state <> 'open'
    ) AS correction ON true
    LEFT JOIN LATERAL (
        SELECT sum(entry.amount_units) AS units, correction.names IS NOT NULL AS corrected
        FROM ledger_journal AS journal JOIN ledger_entry AS entry ON entry.journal_id = journal.id
        JOIN ledger_account AS account ON account.id = entry.account_id AND account.kind = 'custody'
        WHERE journal.reference = ANY(array_append(correction.names, 'gas:' || item.id))
    ) AS entry ON true
    WHERE item.gas_used > 0 AND item.effective_gas_price_units > 0
        AND item.state IN ('confirmed', 'reverted', 'cancelled', 'failed')
        AND NOT EXISTS (SELECT FROM chain_recheck AS open WHERE open.transaction_id = item.id AND open.state = 'open')
) AS booked WHERE booked.said IS NOT NULL ORDER BY booked.id LIMIT %(shown)s
"""

# Gas that was booked under any other name: of no transaction of ours, or of one a second time.
_STRAY = """
SELECT journal.id, journal.reference FROM ledger_journal AS journal
WHERE journal.id IN (
    SELECT entry.journal_id FROM ledger_entry AS entry
    JOIN ledger_account AS account ON account.id = entry.account_id AND account.kind = 'gas'
)
AND NOT EXISTS (SELECT FROM chain_outboundtransaction AS item WHERE 'gas:' || item.id = journal.reference)
AND NOT EXISTS (
    SELECT FROM chain_recheck AS recheck
    WHERE 'gas:' || recheck.transaction_id || ':' || recheck.id = journal.reference
)
ORDER BY journal.id LIMIT %(shown)s
"""


@invariant("treasury.ledger_equals_chain")
def ledger_equals_chain() -> Finding:
    """Per network, wallet and asset: units on chain at the watched block equal what the ledger says is there."""
    holdings, unreadable = reconciliation.holdings_reconcile()
    violations = [
        f"{' '.join(filter(None, [lost.network, lost.asset_code]))} cannot be read at block {lost.block_number}:"
        f" {lost.error}"
        for lost in unreadable
    ]
    violations += [
        f"{holding.network} block {holding.block_number} wallet {holding.wallet} {holding.asset_code}: chain"
        f" {holding.chain_units}, ledger {holding.ledger_units}, not booked yet {holding.unbooked_units:+d},"
        f" unexplained {holding.difference_units:+d}"
        for holding in holdings
        if holding.difference_units
    ]
    return Finding(
        violations[:_SHOWN],
        {
            "blocks": {holding.network: holding.block_number for holding in holdings},
            "holdings": [
                {
                    "network": holding.network,
                    "wallet": holding.wallet,
                    "asset": holding.asset_code,
                    "block": holding.block_number,
                    "chain_units": str(holding.chain_units),
                    "ledger_units": str(holding.ledger_units),
                    "unbooked_units": str(holding.unbooked_units),
                }
                for holding in holdings
                if holding.chain_units or holding.ledger_units or holding.unbooked_units
            ],
        },
    )


@invariant("treasury.gas_booked_once")
def gas_booked_once() -> Finding:
    """The gas of a final transaction is booked once, in the amount burned, within an hour (business time)."""
    late = clock.now() - timedelta(hours=1)
    with connection.cursor() as cursor:
        cursor.execute(_GAS, {"late": late, "shown": _SHOWN})
        violations = [f"transaction {row[0]}: {row[1]}" for row in cursor.fetchall()]
        cursor.execute(_STRAY, {"shown": _SHOWN})
        violations += [
            f"journal {row[0]}: gas under the name {row[1]}, which is no transaction's"
            for row in cursor.fetchall()
        ]
    booked = Journal.objects.filter(kind=GAS_KIND).count()
    return Finding(violations, {"booked": booked, "waiting": selectors.gas_unbooked_count()})
