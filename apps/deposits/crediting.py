"""Final deposits become available: a chunk of thousands in a fixed number of statements, in one transaction.

A deposit is credited when its block is final (`Network.final_block`), on the chain that `chain_block` holds, and
nobody halted the network. Less than the minimum waits as `ignored` until it adds up. What the person owes from a
deposit that the chain took back is paid first.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q

from apps.core import bulk, clock, doorbell
from apps.core.failpoints import reach
from apps.core.work import STEPPED
from apps.deposits import notices
from apps.deposits.debts import Debts, rows_lock
from apps.deposits.domain import CREDIT_KIND, DepositState, UnsupportedReason, credit_reference
from apps.deposits.holdings import holdings_move
from apps.deposits.models import Deposit, DepositAddress
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, journals_post
from apps.treasury.domain import DEPOSITS_REF

CREDIT_BELL = "deposits.credit"
# Nobody need look before: `deposits_ready` pulls rows forward when their block becomes final.
WAIT = timedelta(seconds=60)

# Headers decide. Where they were let go, a node must have shown the deposit in a block that was final by then.
_FACTS = """
SELECT deposit.id, rule.minimum_units,
    CASE
        WHEN network.halted_at IS NOT NULL OR network.final_block IS NULL
            OR deposit.block_number > network.final_block THEN 'wait'
        WHEN block.id IS NOT NULL THEN CASE WHEN block.orphaned_at IS NULL THEN 'final' ELSE 'wait' END
        WHEN EXISTS (
            SELECT 1 FROM chain_block AS other WHERE other.network_id = deposit.network_id
                AND other.number = deposit.block_number AND other.orphaned_at IS NULL
        ) THEN 'wait'
        WHEN deposit.checked_block >= deposit.block_number THEN 'final'
        ELSE 'again'
    END,
    coalesce(rule.enabled, false) AND (deposit.contract = '' OR coalesce(token.enabled, false))
FROM deposits_deposit AS deposit
JOIN chain_network AS network ON network.id = deposit.network_id
LEFT JOIN chain_block AS block ON block.network_id = deposit.network_id AND block.hash = deposit.block_hash
LEFT JOIN deposits_depositrule AS rule ON rule.asset_id = deposit.asset_id
LEFT JOIN chain_token AS token ON token.network_id = deposit.network_id AND token.asset_id = deposit.asset_id
WHERE deposit.id = ANY (%s::uuid[])
"""

_READY = """
UPDATE deposits_deposit AS deposit SET run_after = %(now)s FROM chain_network AS network
WHERE network.id = deposit.network_id AND network.halted_at IS NULL AND deposit.state = 'confirming'
    AND deposit.buried_at IS NULL AND deposit.block_number <= network.final_block AND deposit.run_after > %(now)s
"""


@dataclass(frozen=True, slots=True)
class _Fact:
    minimum_units: int
    verdict: str
    allowed: bool


def deposits_ready() -> int:
    """Pull forward what waits for a block that is final now, and ring; returns how many. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_READY, {"now": clock.now()})
        count = int(cursor.rowcount)
    if count:
        doorbell.ring(CREDIT_BELL)
    return count


def deposits_credit(rows: list[Deposit]) -> None:
    """One step of `deposits.credit` over locked rows in state `confirming`."""
    facts = _facts(rows)
    by_verdict: dict[str, list[Deposit]] = defaultdict(list)
    for row in rows:
        fact = facts[row.pk]
        by_verdict[fact.verdict if fact.verdict != "final" or fact.allowed else "refused"].append(row)
    names = notices.Names.read()
    _later(by_verdict["wait"])
    _again(by_verdict["again"])
    events = _refused(by_verdict["refused"], names)
    ready, ignored = _above_minimum(by_verdict["final"], facts)
    _ignore(ignored)
    events += notices.drafts("ignored", ignored, names)
    if ready:
        events += credits_post(ready, names)
    events_publish(events)
    reach("deposits.credit.before_commit")


def credits_post(rows: Sequence[Deposit], names: notices.Names) -> list[EventDraft]:
    """Journals, states and holdings of locked rows that are to be credited with `units_of` each; the events."""
    now = clock.now()
    debts = Debts.lock(rows)
    custody = {
        asset_id: AccountKey(AccountKind.CUSTODY, asset_id, ref=DEPOSITS_REF) for asset_id in _assets(rows)
    }
    loss = {asset_id: AccountKey(AccountKind.LOSS, asset_id) for asset_id in debts.written_off}
    available = {(row.user_id, row.asset_id): _available(row) for row in rows}
    accounts = accounts_open(
        keys=[*custody.values(), *available.values(), *loss.values(), *debts.keys()],
    )
    drafts, units_each, repaid_each = [], [], []
    changes: dict[tuple[UUID, UUID], int] = defaultdict(int)
    for row in rows:
        asset_id = _asset(row)
        units = units_of(row)
        regained, repaid = debts.pay(row, units)
        left = units - regained - repaid
        postings = [Posting(accounts[custody[asset_id]], -units)]
        if left:
            postings.append(Posting(accounts[available[row.user_id, asset_id]], left))
        if repaid:
            postings.append(Posting(accounts[debts.key(row)], repaid))
        if regained:
            postings.append(Posting(accounts[loss[asset_id]], regained))
        drafts.append(JournalDraft(CREDIT_KIND, credit_reference(row.pk, row.sighting), postings))
        changes[row.address_id, asset_id] += units
        units_each.append(units)
        repaid_each.append(regained + repaid)
    # Holdings before accounts, as everywhere: a sweep of the same address waits instead of deadlocking.
    holdings_move(changes)
    journals_post(drafts=drafts)
    reach("deposits.credit.posted")
    bulk.update(
        "deposits_deposit",
        [row.pk for row in rows],
        {"credited_units": ("numeric", units_each)},
        constants={"state": DepositState.CREDITED.value, "reason": "", "credited_at": now},
        also=STEPPED,
    )
    debts.write()
    return [
        notices.draft("credited", row, names, credited_units=str(units), repaid_units=str(repaid))
        for row, units, repaid in zip(rows, units_each, repaid_each, strict=True)
    ]


def units_of(row: Deposit) -> int:
    """What a deposit is worth in base units: what the balance grew by, or the announcement where no node knows."""
    return int(row.amount_units if row.measured_units is None else row.measured_units)


def verdicts(rows: Sequence[Deposit]) -> dict[UUID, str]:
    """`final`, `wait`, or `again` (no header says, and no proof at depth) for each row."""
    return {pk: fact.verdict for pk, fact in _facts(rows).items()}


def _facts(rows: Sequence[Deposit]) -> dict[UUID, _Fact]:
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, [[row.pk for row in rows]])
        return {row[0]: _Fact(int(row[1] or 0), row[2], row[3]) for row in cursor.fetchall()}


def _above_minimum(rows: list[Deposit], facts: dict[UUID, _Fact]) -> tuple[list[Deposit], list[Deposit]]:
    """What is credited now, earlier ignored ones that add up with it included; and what is ignored now.

    People with less than the minimum are taken one at a time (their address is the lock): two small deposits in
    two workers would otherwise each miss the other.
    """
    if not rows:
        return [], []
    small = [row for row in rows if units_of(row) < facts[row.pk].minimum_units]
    addresses_lock({row.address_id for row in small})
    before = rows_lock("state = 'ignored'", Q(state=DepositState.IGNORED), {row.user_id for row in rows})
    if before:
        known = _facts(before)
        before = [row for row in before if known[row.pk].verdict == "final" and known[row.pk].allowed]
    if not small and not before:
        return rows, []
    sums: dict[tuple[UUID, Any], int] = defaultdict(int)
    for row in [*rows, *before]:
        sums[row.user_id, row.asset_id] += units_of(row)
    minimum = {row.asset_id: facts[row.pk].minimum_units for row in rows}
    enough = {key for key, units in sums.items() if key[1] in minimum and units >= minimum[key[1]]}
    credited = [row for row in [*rows, *before] if (row.user_id, row.asset_id) in enough]
    return credited, [row for row in rows if (row.user_id, row.asset_id) not in enough]


def addresses_lock(address_ids: set[UUID]) -> None:
    """Take these people's deposits one at a time until the transaction ends."""
    if address_ids:
        list(
            DepositAddress.objects.select_for_update(no_key=True)
            .filter(pk__any_of=address_ids)
            .order_by("pk")
            .values_list("pk")
        )


def _later(rows: list[Deposit]) -> None:
    constants = {"run_after": clock.now() + WAIT}
    bulk.update("deposits_deposit", [row.pk for row in rows], {}, constants=constants, also=STEPPED)


def _again(rows: list[Deposit]) -> None:
    """Nothing that we hold says where they are: a node is asked again, at depth this time."""
    constants = {"state": DepositState.SEEN.value, "run_after": clock.now()}
    bulk.update("deposits_deposit", [row.pk for row in rows], {}, constants=constants, also=STEPPED)


def _ignore(rows: list[Deposit]) -> None:
    constants = {"state": DepositState.IGNORED.value}
    bulk.update("deposits_deposit", [row.pk for row in rows], {}, constants=constants, also=STEPPED)


def _refused(rows: list[Deposit], names: notices.Names) -> list[EventDraft]:
    """Switched off since the check."""
    reason = UnsupportedReason.DEPOSITS_DISABLED.value
    constants = {"state": DepositState.UNSUPPORTED.value, "reason": reason}
    bulk.update("deposits_deposit", [row.pk for row in rows], {}, constants=constants, also=STEPPED)
    return [notices.draft("unsupported", row, names, reason=reason) for row in rows]


def _assets(rows: Sequence[Deposit]) -> set[UUID]:
    return {_asset(row) for row in rows}


def _available(row: Deposit) -> AccountKey:
    return AccountKey(AccountKind.AVAILABLE, _asset(row), row.user_id)


def _asset(row: Deposit) -> UUID:
    if row.asset_id is None:
        raise ValueError(f"deposit {row.pk} has no asset to credit")
    return row.asset_id
