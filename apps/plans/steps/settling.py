"""Step 5: settle. What the receipt says was bought is shared among the slots, to the last unit."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from apps.chain import selectors as chain_selectors
from apps.chain import services as chain
from apps.chain.domain import TransactionState
from apps.core import bulk, clock, failpoints, work
from apps.core.allocation import allocate
from apps.core.errors import Terminal
from apps.core.work import Claim
from apps.events.services import EventDraft, events_publish
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting
from apps.ledger.services import accounts_open, accounts_open_personal, journals_post
from apps.plans.models import Batch, BatchState, Plan, Slot, SlotReason, SlotState
from apps.plans.steps.outcomes import (
    Closure,
    plans_complete_spent,
    plans_lock,
    plans_locked,
    slots_close,
)
from apps.providers import services as providers
from apps.providers.models import Market

# A swap that reverted is quoted anew this often in all before its slots end.
MAX_TRIES = 3
# The transaction rings when it is out and when it is final, and the tick each second: only they look again. So this is
# no interval, it only has to be over when the ring that says “final” comes.
POLL_SECONDS = 0.1
# What settling looks at of a slot; a batch has thousands.
_READ = ("plan_id", "number", "owner_id", "scheduled_at", "amount_units", "fee_units", "swap_units")


def batch_settle(claim: Claim[Batch]) -> None:
    """Look at the transaction of a batch in state `sending`; when it is final, settle or try again."""
    with claim.locked() as rows:
        for batch in rows:
            if batch.transaction_id is None:
                raise Terminal("a batch that is being sent has no transaction")
            transaction = chain_selectors.transaction_get(transaction_id=batch.transaction_id)
            if not transaction.is_final:
                claim.wait([batch.pk], seconds=POLL_SECONDS)
                continue
            handle: Callable[[Batch, Any], None] = (
                _settle if transaction.state == TransactionState.CONFIRMED else _unbought
            )
            handle(batch, transaction)
            chain.transactions_book(transaction_ids=[transaction.pk])
            failpoints.reach("plans.settle.before_commit")
            claim.step([batch.pk])
    failpoints.reach("plans.settle.after_commit")


def _settle(batch: Batch, transaction: Any) -> None:
    locked = Slot.objects.select_for_update().filter(batch_id=batch.pk, state=SlotState.BATCHED)
    slots = list(locked.only(*_READ).order_by("pk"))
    plans = Plan.objects.filter(pk__any_of={slot.plan_id for slot in slots})
    names: dict[UUID, str] = {}
    # Only a plan with a budget may change here, and is locked: before the accounts, as everywhere.
    budgeted: set[UUID] = set()
    for plan_id, name, budget_units in plans.values_list("pk", "name", "total_budget_units"):
        names[plan_id] = name
        if budget_units is not None:
            budgeted.add(plan_id)
    if budgeted:
        plans_lock(budgeted)
    market = Market.objects.select_related("sold_asset", "bought_asset").get(pk=batch.market_id)
    address = transaction.wallet.address
    fill = providers.fill_read(market_id=market.pk, recipient=address, logs=transaction.logs)
    weights = [slot.swap_units or 0 for slot in slots]
    keys = [slot.pk for slot in slots]
    spent = allocate(fill.amount_in_units, weights, keys)
    received = allocate(fill.amount_out_units, weights, keys)
    transaction_hash = chain_selectors.transaction_hash(transaction)
    events = [
        _settled_event(slot, names[slot.plan_id], market, units, out, transaction_hash)
        for slot, units, out in zip(slots, spent, received, strict=True)
    ]
    now = clock.now()
    # Before the books: fees and custody are shared by every batch of an asset, and stay locked from then on.
    bulk.update(
        "plans_slot",
        keys,
        {"received_units": ("numeric", received)},
        constants={
            "state": SlotState.SETTLED.value,
            "reason": SlotReason.FILLED.value,
            "closed_at": now,
        },
        also=work.STEPPED,
    )
    _post(slots, spent, received, market=market, address=address)
    failpoints.reach("plans.settle.posted")
    plans_complete_spent(budgeted)
    Batch.objects.filter(pk=batch.pk).update(
        state=BatchState.SETTLED,
        filled_in_units=fill.amount_in_units,
        filled_out_units=fill.amount_out_units,
        settled_at=now,
    )
    events_publish(events)


def _post(slots: list[Slot], spent: list[int], received: list[int], *, market: Market, address: str) -> None:
    """One journal per slot: the hold becomes fee and what was swapped, the purchase becomes available.

    What the venue did not take of the amount (nothing, for exact-input swaps) goes back to the person.
    """
    sold, bought = market.sold_asset_id, market.bought_asset_id
    owners = {slot.owner_id for slot in slots}
    held = accounts_open_personal(kind=AccountKind.HELD, asset_id=sold, owner_ids=owners)
    given = accounts_open_personal(kind=AccountKind.AVAILABLE, asset_id=bought, owner_ids=owners)
    back: dict[UUID, UUID] = {}
    if spent != [slot.swap_units for slot in slots]:
        back = accounts_open_personal(kind=AccountKind.AVAILABLE, asset_id=sold, owner_ids=owners)
    fees = AccountKey(AccountKind.FEES, sold)
    from_custody = AccountKey(AccountKind.CUSTODY, sold, ref=address)
    to_custody = AccountKey(AccountKind.CUSTODY, bought, ref=address)
    opened = accounts_open(keys=[fees, from_custody, to_custody])
    fees_id, from_id, to_id = opened[fees], opened[from_custody], opened[to_custody]
    drafts = []
    for slot, units, out in zip(slots, spent, received, strict=True):
        postings = [
            Posting(held[slot.owner_id], -slot.amount_units),
            Posting(fees_id, slot.fee_units or 0),
            Posting(from_id, units),
            Posting(given[slot.owner_id], out),
            Posting(to_id, -out),
        ]
        left = (slot.swap_units or 0) - units
        if left:
            postings.append(Posting(back[slot.owner_id], left))
        drafts.append(JournalDraft("purchase", f"slot:{slot.pk}:settle", tuple(postings)))
    journals_post(drafts=drafts)


def _settled_event(
    slot: Slot, plan_name: str, market: Market, spent: int, received: int, transaction_hash: str
) -> EventDraft:
    payload = {
        "plan_id": str(slot.plan_id),
        "plan_name": plan_name,
        "slot_id": str(slot.pk),
        "number": slot.number,
        "scheduled_at": slot.scheduled_at.isoformat(),
        "sold_asset": market.sold_asset.code,
        "bought_asset": market.bought_asset.code,
        "amount_units": str(slot.amount_units),
        "fee_units": str(slot.fee_units),
        "swapped_units": str(spent),
        "received_units": str(received),
        "transaction_hash": transaction_hash,
    }
    return EventDraft("execution.settled", "person", slot.owner_id, payload, "slot", slot.pk)


def _unbought(batch: Batch, transaction: Any) -> None:
    """The swap is final and bought nothing: price the batch anew, or end its slots when the tries are used up."""
    tried = {
        "try": batch.try_number,
        "transaction_id": str(transaction.pk),
        "outcome": transaction.state,
        "reason": transaction.reason,
    }
    reverted = transaction.state == TransactionState.REVERTED
    if reverted:
        # A venue whose swaps keep reverting is the breaker's business.
        venue_id = UUID(batch.decision["quote"]["route"]["venue_id"])
        providers.venue_outcome_record(venue_id=venue_id, error="the swap reverted")
    batch.decision = {**batch.decision, "tries": [*batch.decision.get("tries", []), tried]}
    refused = transaction.state == TransactionState.FAILED
    if not refused and batch.try_number < MAX_TRIES:
        batch.try_number += 1
        batch.state = BatchState.PRICING
        batch.transaction = None
        batch.run_after = clock.now()
        batch.save()
        return
    reason = SlotReason.SWAP_REVERTED if reverted else SlotReason.TRANSACTION_REFUSED
    slots = list(batch.slots.select_for_update().filter(state=SlotState.BATCHED).order_by("pk"))
    plans = plans_locked({slot.plan_id for slot in slots})
    slots_close([Closure(slot, SlotState.FAILED, reason) for slot in slots], plans)
    batch.state, batch.reason = BatchState.CLOSED, reason.value
    batch.save()
