"""What the chain takes back: before the credit it is only said so, after the credit the books follow the chain.

A reversal takes what is still available; what was spent already becomes a debt (`owed`) of the person, who is
frozen until it is paid by a later credit or written off by two operators. So books equal the chain at all times.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.accounts.services import user_freeze
from apps.chain.models import Network
from apps.chain.services import network_halt
from apps.core import bulk, clock
from apps.core.failpoints import reach
from apps.core.ids import uuid7_floor
from apps.core.work import STEPPED
from apps.deposits import notices
from apps.deposits.domain import FREEZE_REASON, GONE, REVERSAL_KIND, DepositState, reversal_reference
from apps.deposits.holdings import holdings_move
from apps.deposits.models import Deposit, Holding
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, balances_lock, journals_post
from apps.treasury.domain import DEPOSITS_REF

logger = logging.getLogger(__name__)

_PURCHASES_SHOWN = 50

# A block that we hold as orphaned, or whose height is another block now. A height that we do not hold says nothing.
_GONE = """
SELECT deposit.id FROM deposits_deposit AS deposit
JOIN chain_block AS block ON block.network_id = deposit.network_id AND block.hash = deposit.block_hash
WHERE deposit.network_id = %(network)s AND block.orphaned_at IS NOT NULL
    AND deposit.state NOT IN ('orphaned', 'reversed', 'frozen') AND deposit.gone_at IS NULL
UNION
SELECT deposit.id FROM deposits_deposit AS deposit
JOIN chain_block AS block ON block.network_id = deposit.network_id AND block.number = deposit.block_number
    AND block.orphaned_at IS NULL
WHERE deposit.network_id = %(network)s AND block.hash <> deposit.block_hash
    AND deposit.block_number >= (SELECT min(number) FROM chain_block WHERE network_id = %(network)s)
    AND deposit.state NOT IN ('orphaned', 'reversed', 'frozen') AND deposit.gone_at IS NULL
"""

# What was bought with an asset since an instant: the purchases' entries on what was held for them.
_PURCHASES = """
SELECT wanted.position, journal.id, journal.reference, -entry.amount_units
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[]) WITH ORDINALITY AS wanted (owner_id, asset_id, since, position)
JOIN ledger_account AS account ON account.owner_id = wanted.owner_id AND account.asset_id = wanted.asset_id
    AND account.kind IN ('held', 'available')
CROSS JOIN LATERAL (
    SELECT * FROM ledger_entry AS entry
    WHERE entry.account_id = account.id AND entry.id >= wanted.since AND entry.amount_units < 0
    ORDER BY entry.id LIMIT 1000
) AS entry
JOIN ledger_journal AS journal ON journal.id = entry.journal_id AND journal.kind = 'purchase'
ORDER BY wanted.position, entry.id
"""


def deposits_orphan(network_id: UUID) -> int:
    """Take back every deposit whose block is not on the chain that `chain_block` holds; returns how many.

    Safe at any time; one cheap query when nothing was taken back. Called by the scanner on a fork, and by
    `reorgs_follow` in any case.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_GONE, {"network": network_id})
            ids = [row[0] for row in cursor.fetchall()]
        return deposits_take_back(ids=ids) if ids else 0


def reorgs_follow() -> int:
    """`deposits_orphan` for every network: what a credit that raced with a reorg left behind is found here."""
    return sum(deposits_orphan(network_id) for network_id in Network.objects.values_list("id", flat=True))


def deposits_take_back(*, ids: Collection[UUID]) -> int:
    """These deposits are not on the chain (any more): orphaned, or reversed, or frozen when spent.

    Call it in a transaction. The rows are locked in id order; whoever credits them at the same time holds the
    same locks, so that its credit is either seen here and reversed, or does not happen.
    """
    rows = list(
        Deposit.objects.select_for_update(of=("self",))
        .filter(pk__any_of=ids)
        .exclude(state__in=GONE)
        .order_by("pk")
    )
    if not rows:
        return 0
    names = notices.Names.read()
    credited = [row for row in rows if row.state == DepositState.CREDITED]
    others = [row for row in rows if row.state != DepositState.CREDITED]
    bulk.update(
        "deposits_deposit",
        [row.pk for row in others],
        {},
        constants={"state": DepositState.ORPHANED.value, **_FORGOTTEN},
        also=STEPPED + ", buried_at = NULL",
    )
    events_publish(notices.drafts("orphaned", others, names))
    count = len(others) + (_reverse(credited, names) if credited else 0)
    reach("deposits.orphan.before_commit")
    return count


# What was found out about the old block, and what operators were asked about it, is not true of a new one.
_FORGOTTEN: dict[str, Any] = {
    "reason": "",
    "measured_units": None,
    "checked_block": None,
    "hand_requested_by": "",
    "hand_requested_at": None,
    "hand_units": None,
    "hand_note": "",
    "hand_approved_by": "",
}


def _reverse(rows: list[Deposit], names: notices.Names) -> int:
    rows = _still_there(rows)
    if not rows:
        return 0
    drafts, owed = _reversals(rows)
    journals_post(drafts=drafts)
    reach("deposits.reverse.posted")
    changes: dict[tuple[UUID, UUID], int] = defaultdict(int)
    for row in rows:
        changes[row.address_id, _asset(row)] -= row.credited_units
    holdings_move(changes)
    bulk.update(
        "deposits_deposit",
        [row.pk for row in rows],
        {
            "state": (
                "text",
                [(DepositState.FROZEN if units else DepositState.REVERSED).value for units in owed],
            ),
            "owed_units": ("numeric", owed),
        },
        constants={**_FORGOTTEN, "credited_units": 0, "credited_at": None},
        operators={"owed_units": "+"},
        also=STEPPED + ", buried_at = NULL",
    )
    purchases = _purchases(rows)
    told: list[EventDraft] = []
    for position, (row, units) in enumerate(zip(rows, owed, strict=True)):
        bought = purchases.get(position, [])
        more = {
            "reversed_units": str(row.credited_units),
            "owed_units": str(units),
            "purchases": bought[:_PURCHASES_SHOWN],
            "purchase_count": len(bought),
        }
        told.append(notices.draft("reversed", row, names, **more))
        if units:
            told.append(notices.draft("frozen", row, names, owed_units=str(units)))
        logger.error(
            "credited deposit reversed",
            extra={
                "deposit": str(row.pk),
                "person": str(row.user_id),
                "owed": str(units),
                "spent_on": len(bought),
            },
        )
    events_publish(told)
    for user_id in sorted({row.user_id for row, units in zip(rows, owed, strict=True) if units}):
        user_freeze(user_id=user_id, reason=FREEZE_REASON)
    return len(rows)


def _reversals(rows: Sequence[Deposit]) -> tuple[list[JournalDraft], list[int]]:
    """The journal of each row, and what its person owes after it; several rows of one person share what is left."""
    keys = {AccountKey(AccountKind.CUSTODY, _asset(row), ref=DEPOSITS_REF) for row in rows}
    for row in rows:
        keys.add(AccountKey(AccountKind.AVAILABLE, _asset(row), row.user_id))
        keys.add(AccountKey(AccountKind.OWED, _asset(row), row.user_id))
    accounts = accounts_open(keys=keys)
    left = balances_lock(account_ids=list(accounts.values()))
    drafts, owed = [], []
    for row in rows:
        available = accounts[AccountKey(AccountKind.AVAILABLE, _asset(row), row.user_id)]
        debt = accounts[AccountKey(AccountKind.OWED, _asset(row), row.user_id)]
        custody = accounts[AccountKey(AccountKind.CUSTODY, _asset(row), ref=DEPOSITS_REF)]
        taken = min(left[available], row.credited_units)
        left[available] -= taken
        short = row.credited_units - taken
        owed.append(short)
        postings = [Posting(custody, row.credited_units), Posting(available, -taken), Posting(debt, -short)]
        reference = reversal_reference(row.pk, row.sighting)
        drafts.append(JournalDraft(REVERSAL_KIND, reference, [one for one in postings if one.amount_units]))
    return drafts, owed


def _still_there(rows: list[Deposit]) -> list[Deposit]:
    """Rows whose money the books still have at the address. What was collected since is an operator's case.

    A collection is final before it is booked, and a reorg below something final halts the network by itself. Each
    halts it once: an operator who resumes has the chain read again, which may show the deposit in another block
    (`sightings`), or not at all (invariant `deposits.collected_on_chain`).
    """
    holdings = {
        (held.address_id, held.asset_id): int(held.units)
        for held in Holding.objects.select_for_update()
        .filter(address_id__in={row.address_id for row in rows}, asset_id__in={row.asset_id for row in rows})
        .order_by("asset_id", "address_id")
    }
    kept, lost = [], []
    for row in rows:
        key = row.address_id, _asset(row)
        if holdings.get(key, 0) < row.credited_units:
            reason = f"deposit {row.pk} was taken back by the chain after it was collected"
            network_halt(network_id=row.network_id, reason=reason)
            lost.append(row.pk)
            continue
        holdings[key] -= row.credited_units
        kept.append(row)
    if lost:
        bulk.update("deposits_deposit", lost, {}, constants={"gone_at": clock.now()})
    return kept


def _purchases(rows: Sequence[Deposit]) -> dict[int, list[dict[str, str]]]:
    """By the row's place: the purchases made with the person's money of that asset since the credit."""
    found: dict[int, list[dict[str, str]]] = defaultdict(list)
    since = [uuid7_floor((row.credited_at or row.created_at) - timedelta(milliseconds=1)) for row in rows]
    with connection.cursor() as cursor:
        cursor.execute(_PURCHASES, [[row.user_id for row in rows], [row.asset_id for row in rows], since])
        for position, journal_id, reference, units in cursor.fetchall():
            found[position - 1].append(
                {"journal_id": str(journal_id), "reference": reference, "units": str(int(units))}
            )
    return found


def _asset(row: Deposit) -> UUID:
    if row.asset_id is None:
        raise ValueError(f"deposit {row.pk} was credited without an asset")
    return row.asset_id
